//! See `echo_core::fuzzing::npz`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: echo_core::fuzzing::tolerate_guarded_panics(), |bytes: &[u8]| {
    echo_core::fuzzing::npz(bytes);
});
