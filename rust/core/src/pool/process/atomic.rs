//! The atomics of what parent and child share; `tests/loom.rs` puts loom's in their place.

pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
