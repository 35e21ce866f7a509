//! Memory that a dropped model leaves with the allocator.
//!
//! glibc keeps what is freed, in a heap for each thread that ever asked, and threads come and go with
//! models: a process that loads one after the other would hold tens of MB that nobody uses.

/// Gives free memory back to the system when it is dropped; the last field of what is large.
#[derive(Debug)]
pub(crate) struct Trim;

impl Drop for Trim {
    fn drop(&mut self) {
        trim();
    }
}

/// Gives free memory back to the system.
pub(super) fn trim() {
    // SAFETY: it takes the allocator's own locks and touches nothing that is in use.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0);
    }
}
