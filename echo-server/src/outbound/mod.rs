//! Requests to addresses that clients name: sources to fetch and callbacks to tell.
//!
//! Nobody may use the server to reach what only the server can reach. So a host is resolved once, all
//! of its addresses are checked, and the connection goes to one of those very addresses: there is no
//! second resolution to be deceived, and an address written in any odd way is an address like others.

mod client;
mod fetch;
mod policy;
mod url;

pub use client::{Sent, get, post};
pub use fetch::{Origin, fetch_sources};
pub use policy::{Blocked, Policy, Target};
pub use url::{MAX_LENGTH, Url};
