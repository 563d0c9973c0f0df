//! The task that this thread published last, and when: what `delay().get()` is about.
//!
//! A client that waits for a task it published an instant ago need not read the store first
//! (`Origin::JustPublished`). A thread that publishes and waits elsewhere only loses that shortcut.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use taskcore::{clock, result::Origin};

/// How long a published task counts as fresh: well under what an idle worker needs to answer.
const FRESH: Duration = Duration::from_micros(100);

thread_local! {
    static LAST: RefCell<Option<(String, Instant)>> = const { RefCell::new(None) };
}

/// `id` was confirmed by the broker now.
pub(crate) fn published(id: &str) {
    LAST.with_borrow_mut(|last| {
        let (text, at) = last.get_or_insert_with(|| (String::new(), clock::instant()));
        text.clear();
        text.push_str(id);
        *at = clock::instant();
    });
}

/// Where the announcement of `id` comes from, when nothing says that it is foreign.
pub(crate) fn origin(id: &str) -> Origin {
    let fresh = LAST.with_borrow(|last| {
        last.as_ref().is_some_and(|(text, at)| text == id && at.elapsed() < FRESH)
    });
    if fresh { Origin::JustPublished } else { Origin::Own }
}
