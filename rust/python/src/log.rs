//! What the worker's loop reports, as the lines that Celery's users know.
//!
//! `[2026-11-20 08:00:00,123: INFO/MainProcess] Task proj.add[...] succeeded in 0.0021s: 5`. Events
//! carry a constant message and fields; only here do they become text, which `log_writer` takes to
//! standard error or to the log file. Python's logging is not involved: it would cost the
//! interpreter lock per line.

use std::{fmt, fs::File, io};

use taskcore::{clock, worker::task_log};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::log_writer::{Drain, LogWriter};

/// Where the lines of the worker's loop go.
pub(crate) struct Log {
    /// What events go through while the loop's thread runs.
    pub(crate) dispatch: tracing::Dispatch,
    pub(crate) writer: LogWriter,
    pub(crate) drain: Drain,
}

/// The log at `path`, or on standard error.
pub(crate) fn open(level: i64, path: Option<String>) -> io::Result<Log> {
    let level = match level {
        ..=10 => LevelFilter::DEBUG,
        11..=20 => LevelFilter::INFO,
        21..=30 => LevelFilter::WARN,
        _ => LevelFilter::ERROR,
    };
    let file = match &path {
        Some(path) => File::options().append(true).create(true).open(path)?,
        None => standard_error()?,
    };
    let (writer, drain) = LogWriter::new(file, path);
    let lines = tracing_subscriber::fmt().with_max_level(level).event_format(Lines);
    Ok(Log { dispatch: lines.with_writer(writer.clone()).into(), writer, drain })
}

/// Standard error by a descriptor of its own: a write that waits there must not hold up a panic's
/// message.
#[cfg(unix)]
fn standard_error() -> io::Result<File> {
    use std::os::fd::AsFd;
    io::stderr().as_fd().try_clone_to_owned().map(File::from)
}

/// The same on Windows.
#[cfg(windows)]
fn standard_error() -> io::Result<File> {
    use std::os::windows::io::AsHandle;
    io::stderr().as_handle().try_clone_to_owned().map(File::from)
}

/// A warning as a line of the log.
pub(crate) fn warning(text: &str) -> String {
    format!("[{}: WARNING/MainProcess] {text}\n", Local(clock::wall_us()))
}

struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _ctx: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "INFO",
            Level::DEBUG | Level::TRACE => "DEBUG",
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        write!(out, "[{}: {level}/", Local(clock::wall_us()))?;
        match fields.child {
            0 => write!(out, "MainProcess] "),
            pid => write!(out, "Child-{pid}] "),
        }?;
        if event.metadata().target() == task_log::TARGET {
            fields.write_task(&mut out)?;
        } else {
            write!(out, "{}", fields.message)?;
            if !fields.note.is_empty() {
                write!(out, ": {}", Plain(&fields.note))?;
            }
            for (name, value) in &fields.rest {
                write!(out, " {name}={}", Plain(value))?;
            }
        }
        writeln!(out)
    }
}

/// The fields of one event.
#[derive(Default)]
struct Fields {
    message: String,
    event: String,
    task: String,
    id: String,
    note: String,
    traceback: String,
    /// Process id of the child that it is about; 0 for the worker itself.
    child: u64,
    seconds: f64,
    rest: Vec<(&'static str, String)>,
}

impl Fields {
    fn write_task(&self, out: &mut Writer<'_>) -> fmt::Result {
        let Self { event, seconds, .. } = self;
        let note = Plain(&self.note);
        write!(out, "Task {}[{}] ", Plain(&self.task), Plain(&self.id))?;
        match event.as_str() {
            "received" => write!(out, "received"),
            "succeeded" => write!(out, "succeeded in {seconds}s: {note}"),
            "failed" => write!(out, "raised unexpected: {note}"),
            "expected" => write!(out, "raised expected: {note}"),
            "unlimited" => write!(
                out,
                "runs without its hard time limit ({seconds}s): pool {note} cannot kill a task; use the pool prefork, or a soft \
                 time limit"
            ),
            "retried" => write!(out, "retry: {note}"),
            "timed_out" => write!(out, "was killed: hard time limit ({seconds}s) exceeded"),
            other if self.note.is_empty() => write!(out, "{other}"),
            other => write!(out, "{other}: {note}"),
        }?;
        if !self.traceback.is_empty() {
            write!(out, "\n{}", Bounded(self.traceback.trim_end()))?;
        }
        Ok(())
    }

    fn text(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            "event" => self.event = value,
            "task" => self.task = value,
            "id" => self.id = value,
            "note" => self.note = value,
            "traceback" => self.traceback = value,
            name => self.rest.push((name, value)),
        }
    }
}

/// Text from outside on a line of its own making: no character of it ends the line or moves the
/// cursor.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(char::is_control) {
            match part.chars().next_back().filter(|c| c.is_control()) {
                Some(last) => {
                    f.write_str(&part[..part.len() - last.len_utf8()])?;
                    write!(f, "{}", last.escape_default())?;
                }
                None => f.write_str(part)?,
            }
        }
        Ok(())
    }
}

/// What a log keeps of a traceback from each of its ends. The result store has all of it.
const KEPT: usize = 16 * 1024;

/// A text with its middle left out if it is very long: an exception may quote megabytes.
struct Bounded<'a>(&'a str);

impl fmt::Display for Bounded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0;
        if text.len() <= 2 * KEPT {
            return f.write_str(text);
        }
        let head = &text[..boundary(text, KEPT)];
        let tail = &text[boundary(text, text.len() - KEPT)..];
        let left_out = text.len() - head.len() - tail.len();
        write!(f, "{head}\n... {left_out} bytes left out ...\n{tail}")
    }
}

/// The last place not after `at` where a character begins.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "child" => self.child = value,
            _ => self.text(field, value.to_string()),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match field.name() {
            "runtime" | "limit" => self.seconds = value,
            _ => self.text(field, value.to_string()),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format!("{value:?}"));
    }
}

/// A time as logging's `%(asctime)s` shows it, in the zone of this machine.
struct Local(i64);

impl fmt::Display for Local {
    #[allow(unsafe_code)]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_euclid(1_000_000) as libc::time_t;
        let millis = self.0.rem_euclid(1_000_000) / 1_000;
        // SAFETY: all-zero bytes are a valid `tm`, whose pointer may be null.
        let mut tm: libc::tm = unsafe { std::mem::zeroed() };
        #[cfg(unix)]
        // SAFETY: both point to live values; the reentrant function writes only `tm`.
        unsafe {
            libc::localtime_r(&raw const seconds, &raw mut tm);
        }
        #[cfg(windows)]
        // SAFETY: as above.
        unsafe {
            libc::localtime_s(&raw mut tm, &raw const seconds);
        }
        let (year, month, day) = (tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday);
        let (hour, minute, second) = (tm.tm_hour, tm.tm_min, tm.tm_sec);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02},{millis:03}")
    }
}
