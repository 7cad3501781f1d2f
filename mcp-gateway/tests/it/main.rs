//! The real binary over real sockets, with the real core or a scripted one behind it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something is not as it must be; clippy's exemption covers only test functions"
)]

mod gateway;

mod attacks;
mod compose;
mod consent;
mod docs;
mod faults;
mod guard;
mod load;
mod modern;
mod sessions;
mod sign_in;
mod start;
mod stopping;
