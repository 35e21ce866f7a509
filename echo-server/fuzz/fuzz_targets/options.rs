//! See `echo_server::fuzzing::options`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    echo_server::fuzzing::options(bytes);
});
