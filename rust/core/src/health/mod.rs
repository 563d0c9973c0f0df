//! Health and metrics of a worker, over HTTP and for remote control.
//!
//! ```text
//! probe, Prometheus --HTTP--> server: request -> /live, /ready --> Health --Command--> worker's loop
//!                                                /metrics      --> figures, queues, process -> text
//! ```
//!
//! It runs on a thread of its own, so a loop that stalls is reported and not waited for, and a
//! hostile client costs no task anything: requests are read up to a size and a time, and their
//! number is bounded. What is asked of a server (the depths of queues, whether the result store
//! answers) is asked at most once a second on another thread, and waited for only so long. Whether a
//! worker is ready is judged in one place, [`crate::worker::condition`].

mod probe;
mod check;
mod queues;
mod process;
pub mod request;
mod text;
mod families;
mod metrics;
mod endpoint;
mod server;

pub use check::{Health, Verdict};
pub use endpoint::{Bound, Endpoint};
pub use server::Server;
