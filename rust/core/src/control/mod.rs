//! Remote control: what a fleet is asked and told by, in Celery's words (kombu's pidbox).
//!
//! ```text
//! celery.pidbox --request--> mailbox: parse -> method -> answer --Command--> worker's loop
//!                                                       answer --reply----> reply.celery.pidbox
//! ```
//!
//! A request is said to all workers on a fanout exchange; each that is meant answers on a direct one
//! with the key of whoever asked. It is carried out on a thread of its own: a hostile request, a
//! large one or a slow broker costs no task anything, and the loop sees nothing of it but a
//! [`Command`](crate::worker::Command). What only Python knows (settings, custom commands) is asked
//! there, behind the trait [`Program`]. What cannot be understood is logged and answers nothing.

pub mod request;
mod arguments;
pub mod method;
mod signal;
mod glob;
mod render;
mod answer;
mod mailbox;

pub use mailbox::{Mailbox, Node, Program};
