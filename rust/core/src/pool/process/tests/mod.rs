//! The pool against a zygote of threads. The real zygote is exercised from Python.

mod calls;
mod ends;
mod fake;
mod lanes;
