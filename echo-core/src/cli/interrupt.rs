//! Ctrl-C: cancel the work, and leave in time even where a long kernel is running.

use std::time::Duration;

use crate::progress::CancelToken;

/// How long work may take to notice, so that the program ends within 100 ms of Ctrl-C.
const GRACE: Duration = Duration::from_millis(60);

/// The shell's convention for a program ended by SIGINT: 128 + 2.
pub(super) const INTERRUPTED: u8 = 130;

/// A token that Ctrl-C cancels. Files are written under another name and renamed when complete, so
/// leaving at any moment leaves no half-written one.
pub(super) fn token() -> CancelToken {
    let token = CancelToken::new();
    let copy = token.clone();
    // Where no handler can be set, the system's own ends the program just as well.
    let _ = ctrlc::set_handler(move || {
        copy.cancel();
        std::thread::sleep(GRACE);
        leave();
    });
    token
}

#[expect(clippy::exit, reason = "the point of a second answer to Ctrl-C is to end the process")]
fn leave() -> ! {
    std::process::exit(i32::from(INTERRUPTED))
}
