//! The boxed future that every async method of a port returns.

use std::{future::Future, pin::Pin};

/// A future on the heap that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
