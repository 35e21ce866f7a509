//! The `echo-asr` command; everything is in [`echo_core::cli`].

fn main() -> std::process::ExitCode {
    echo_core::cli::main(std::env::args_os())
}
