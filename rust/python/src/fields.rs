//! The options of one publish: a dict of strict names on top of a template.
//!
//! Every name is known here or refused here, with the nearest known one; every value is checked for
//! its type and range (`field.rs`). What comes out is a message that lacks only its body, and what else the
//! publisher needs. None means absent.

use std::{borrow::Cow, sync::Arc, time::Duration};

use pyo3::{
    prelude::*,
    types::{PyDict, PyString},
};
use taskcore::{
    backoff::RetryPolicy,
    broker::{Outgoing, Route},
    message::Compression,
    publish::Effort,
    spelling::nearest,
};

use crate::{
    codec::{EMBED_KEYS, Embed},
    errors,
    field::Field,
    template::{self, Serializer, Template},
};

/// Every name, for the error about an unknown one.
const KNOWN: [&str; 35] = [
    "task_id",
    "queue",
    "exchange",
    "routing_key",
    "route",
    "priority",
    "serializer",
    "compression",
    "eta",
    "expires",
    "retries",
    "time_limit",
    "soft_time_limit",
    "ignore_result",
    "root_id",
    "parent_id",
    "group",
    "group_index",
    "shadow",
    "origin",
    "argsrepr",
    "kwargsrepr",
    "reply_to",
    "headers",
    "stamps",
    "stamped_headers",
    "replaced_task_nesting",
    "callbacks",
    "errbacks",
    "chain",
    "chord",
    "delivery_mode",
    "timeout",
    "retry",
    "retry_policy",
];

/// One publish, all but its arguments.
pub(crate) struct Draft<'t, 'py> {
    /// The message without a body, and where it goes; its id is empty unless given.
    pub(crate) outgoing: Outgoing,
    /// What the body is made with.
    pub(crate) style: Style<'t, 'py>,
    /// How hard to try, when it differs from the publisher's manner.
    pub(crate) effort: Option<Effort>,
}

/// What all bodies of one publish are made with.
pub(crate) struct Style<'t, 'py> {
    /// How the body is written.
    pub(crate) serializer: Cow<'t, Serializer>,
    /// How the body is compressed.
    pub(crate) compression: Option<Compression>,
    /// What runs after the task.
    pub(crate) embed: Embed<'py>,
    /// Which printable arguments the publisher is to make.
    pub(crate) shown: Shown,
}

/// Printable arguments that the caller did not give.
#[derive(Clone, Copy)]
pub(crate) struct Shown {
    /// Make `argsrepr`.
    pub(crate) args: bool,
    /// Make `kwargsrepr`.
    pub(crate) kwargs: bool,
}

/// A template with the fields of one publish put in.
///
/// # Errors
/// `ValueError` or `TypeError`, naming the field.
pub(crate) fn draft<'t, 'py>(
    template: &'t Template,
    fields: Option<&Bound<'py, PyDict>>,
    effort: &Effort,
) -> PyResult<Draft<'t, 'py>> {
    let message = template.prototype.clone();
    let mut draft = Draft {
        outgoing: Outgoing {
            route: template.route.clone(),
            ..Outgoing::new(message, template.queue.clone(), template.encoding)
        },
        style: Style {
            serializer: Cow::Borrowed(&template.serializer),
            compression: template.compression,
            embed: Embed::default(),
            shown: Shown { args: true, kwargs: true },
        },
        effort: None,
    };
    let Some(fields) = fields else { return Ok(draft) };
    for (key, value) in fields.iter() {
        let Ok(name) = key.cast::<PyString>() else {
            return Err(errors::kind(format!(
                "a field's name is a `{}`, expected str",
                errors::type_name(&key)
            )));
        };
        if !value.is_none() {
            let field = Field { name: &name.to_cow()?, value: &value };
            field.put(&mut draft, effort)?;
        }
    }
    template::check_queue(template.encoding, &draft.outgoing.queue)?;
    Ok(draft)
}

impl<'py> Field<'_, 'py> {
    /// A route; none for an empty text.
    fn route(&self) -> PyResult<Option<Arc<Route>>> {
        let text = self.text()?;
        if text.is_empty() {
            return Ok(None);
        }
        template::route_of(self.value.py(), &text).map(Some)
    }

    /// What most messages that have fields at all carry.
    fn put(&self, draft: &mut Draft<'_, 'py>, effort: &Effort) -> PyResult<()> {
        let message = &mut draft.outgoing.message;
        let (headers, properties) = (&mut message.headers, &mut message.properties);
        match self.name {
            "reply_to" => properties.reply_to = Some(self.text()?),
            "task_id" => headers.id = self.named()?,
            "root_id" => headers.root_id = Some(self.named()?),
            "parent_id" => headers.parent_id = Some(self.named()?),
            "eta" => headers.eta = Some(self.time()?),
            "expires" => headers.expires = Some(self.time()?),
            "retries" => headers.retries = self.count()?,
            "ignore_result" => headers.ignore_result = Some(self.flag()?),
            "time_limit" => headers.timelimit.hard = self.seconds()?,
            "soft_time_limit" => headers.timelimit.soft = self.seconds()?,
            "priority" => properties.priority = template::level(self.int("an int from 0 to 9")?)?,
            "delivery_mode" => properties.delivery_mode = Some(self.mode()?),
            "exchange" => properties.exchange = self.text()?,
            "routing_key" => properties.routing_key = self.text()?,
            "route" => draft.outgoing.route = self.route()?,
            "queue" => {
                let queue = self.named()?;
                draft.outgoing.queue = Arc::from(queue.as_str());
                properties.routing_key = queue;
            }
            "serializer" => {
                let serializer = Serializer::from_name(self.value.py(), &self.named()?)?;
                serializer.mark(message);
                draft.style.serializer = Cow::Owned(serializer);
            }
            "compression" => {
                draft.style.compression = Some(template::compression_of(&self.named()?)?);
            }
            "timeout" | "retry" | "retry_policy" => {
                self.put_effort(draft.effort.get_or_insert(*effort))?;
            }
            _ => return self.put_rare(draft),
        }
        Ok(())
    }

    fn put_rare(&self, draft: &mut Draft<'_, 'py>) -> PyResult<()> {
        if let Some(index) = EMBED_KEYS.iter().position(|name| *name == self.name) {
            draft.style.embed.0[index] = self.link()?;
            return Ok(());
        }
        if !KNOWN.contains(&self.name) {
            return Err(unknown("field", self.name, &KNOWN));
        }
        let rare = draft.outgoing.message.headers.rare_mut();
        match self.name {
            "group" => rare.group = Some(self.named()?),
            "group_index" => rare.group_index = Some(self.int("an int")?),
            "shadow" => rare.shadow = Some(self.named()?),
            "origin" => rare.origin = Some(self.text()?),
            "argsrepr" => {
                rare.argsrepr = Some(self.text()?);
                draft.style.shown.args = false;
            }
            "kwargsrepr" => {
                rare.kwargsrepr = Some(self.text()?);
                draft.style.shown.kwargs = false;
            }
            "replaced_task_nesting" => rare.replaced_task_nesting = self.count()?,
            "stamped_headers" => rare.stamped_headers = Some(self.names()?),
            "stamps" => rare.stamps = self.map()?,
            _ => rare.extra = self.headers()?,
        }
        Ok(())
    }

    fn put_effort(&self, effort: &mut Effort) -> PyResult<()> {
        match self.name {
            "timeout" => {
                let seconds = self.seconds()?.unwrap_or_default();
                effort.timeout =
                    Duration::try_from_secs_f64(seconds).map_err(|_| self.wrong("seconds"))?;
            }
            "retry" if self.flag()? => {
                effort.retry.get_or_insert_default();
            }
            "retry" => effort.retry = None,
            // `retry=False` in the same dict wins, whichever comes first.
            _ => {
                if let Some(policy) = &mut effort.retry {
                    *policy = self.policy(*policy)?;
                }
            }
        }
        Ok(())
    }

    fn policy(&self, mut policy: RetryPolicy) -> PyResult<RetryPolicy> {
        const NAMES: [&str; 4] = ["max_retries", "interval_start", "interval_step", "interval_max"];
        let Ok(dict) = self.value.cast::<PyDict>() else { return Err(self.wrong("a dict")) };
        for (key, value) in dict.iter() {
            let name = key.to_string();
            let part = Field { name: &name, value: &value };
            let wait = || interval(&name, part.number("seconds")?);
            match name.as_str() {
                "max_retries" if value.is_none() => policy.max_retries = None,
                "max_retries" => policy.max_retries = Some(part.count()?),
                "interval_start" => policy.interval_start = wait()?,
                "interval_step" => policy.interval_step = wait()?,
                "interval_max" => policy.interval_max = wait()?,
                other => return Err(unknown("key of `retry_policy`", other, &NAMES)),
            }
        }
        Ok(policy)
    }
}

fn interval(name: &str, seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        errors::value(format!("`{name}` is `{seconds}`, expected seconds that are not negative"))
    })
}

#[cold]
fn unknown(what: &str, name: &str, known: &[&str]) -> PyErr {
    let hint = match nearest(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("expected one of {}", known.join(", ")),
    };
    errors::value(format!("unknown {what} `{name}`: {hint}"))
}
