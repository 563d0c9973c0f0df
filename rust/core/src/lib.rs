//! The core of taskcore: everything between `delay()` and the acknowledgement, except the user's
//! code.
//!
//! ```text
//! Message --broker--> Delivery --triage--> Request --dispatch--> Call --pool--> Outcome --settle--> ack + result
//! ```
//!
//! Each station takes one noun and gives the next; no station calls back up the path. The modules
//! are listed in the order of the path. Nothing here knows Python: the PyO3 layer lives in the
//! crate `taskcore-python`.

pub mod error;
pub mod clock;
pub mod fork;
pub mod backoff;
pub mod spelling;
pub mod config;
pub mod future;
pub mod url;
pub mod beat;
mod redis_connection;

mod sqlite_store;

pub mod message;
pub mod publish;
pub mod broker;
pub mod event;
pub mod worker;
pub mod pool;
pub mod result;
pub mod health;
pub mod control;

pub mod assemble;

pub use error::{Error, ErrorKind, Result};
