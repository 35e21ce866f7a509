//! See `echo_server::fuzzing::multipart`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    echo_server::fuzzing::multipart(bytes);
});
