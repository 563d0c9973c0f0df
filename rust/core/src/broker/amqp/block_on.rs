//! Waiting in a thread for a future, until a deadline.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Instant,
};

use crate::clock;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// What the future gives, or `None` at the deadline.
pub(super) fn block_on<T>(deadline: Instant, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
            return Some(value);
        }
        let left = deadline.saturating_duration_since(clock::instant());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_future_is_waited_for_until_the_deadline() {
        let (send, receive) = tokio::sync::oneshot::channel();
        let thread = thread::spawn(move || send.send(7));
        let far = clock::instant() + Duration::from_secs(30);
        assert_eq!(block_on(far, receive), Some(Ok(7)));
        assert_eq!(thread.join().expect("it ends"), Ok(()));
        let near = clock::instant() + Duration::from_millis(5);
        assert_eq!(block_on(near, std::future::pending::<()>()), None);
    }
}
