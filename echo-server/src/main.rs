//! The command `echo-server`.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use echo_server::app::{App, Drain};
use echo_server::auth::{Claims, KEY_PREFIX, sign};
use echo_server::config::{self, Config, Given};
use echo_server::{clock, remote, secrets, server, worker};
use tokio::signal::unix::{SignalKind, signal};

/// Bad configuration, as `sysexits.h` has it.
const EX_CONFIG: u8 = 78;
/// How long threads may still take at the end: with the rest less than is given to a service that stops.
const GOODBYE: Duration = Duration::from_secs(2);

#[derive(Debug, Parser)]
#[command(version, about = "Transcription as a service")]
struct Arguments {
    /// Without one: `serve`.
    #[command(subcommand)]
    command: Option<Command>,
    /// A file of variables, one `NAME=value` a line; the environment wins.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server and its workers.
    Serve,
    /// Run workers of an API elsewhere: `ECHO_API_URL`, `ECHO_WORKER_SECRET` and `NATS_URL`.
    Worker,
    /// The process that holds the model; `serve` and `worker` start it.
    #[command(hide = true)]
    Child,
    /// Bring the schema of the database up to date.
    Migrate,
    /// Show the values in force, secrets masked, and exit.
    CheckConfig,
    /// Erase what is older than the configuration keeps.
    Gc,
    /// Ask a running server whether it answers; for containers.
    Healthcheck,
    /// Print the description of the interface.
    Openapi,
    /// Make a bearer token (with `JWT_SECRET`) or an API key for `ECHO_API_KEYS`.
    Token {
        /// Whose it is.
        #[arg(long, default_value = "default")]
        tenant: String,
        /// What it allows, separated by spaces.
        #[arg(long, default_value = "transcribe:write transcribe:read")]
        scope: String,
        /// How long a bearer token is valid, in hours.
        #[arg(long, default_value_t = 24)]
        hours: u32,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let command = arguments.command.unwrap_or(Command::Serve);
    if matches!(command, Command::Child) {
        log(false, "warn");
        return match worker::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => fail(1, &reason),
        };
    }
    let given = match given(arguments.config.as_deref()) {
        Ok(given) => given,
        Err(reason) => return fail(EX_CONFIG, &reason),
    };
    let config = match Config::from_given(&given) {
        Ok(config) => config,
        Err(error) => return fail(EX_CONFIG, &error.to_string()),
    };
    match command {
        Command::CheckConfig => check_config(&given),
        Command::Openapi => say(echo_server::OPENAPI),
        Command::Token { tenant, scope, hours } => say(&token(&config, tenant, scope, hours)),
        Command::Healthcheck => match healthcheck(config.address) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => fail(1, &reason),
        },
        command => {
            log(config.has_json_logs, "info");
            match run(&command, config) {
                Ok(()) => ExitCode::SUCCESS,
                Err(reason) => fail(1, &reason),
            }
        }
    }
}

fn run(command: &Command, config: Config) -> Result<(), String> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(128).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let done = runtime.block_on(async {
        match command {
            Command::Serve => serve(config).await,
            Command::Worker => work(config).await,
            Command::Migrate => {
                App::open(Config { is_migrated: true, ..config })?;
                Ok(())
            }
            Command::Gc => {
                server::collect_garbage(&*App::open(config)?).await;
                Ok(())
            }
            _ => Ok(()),
        }
    });
    // What blocks and is for nobody, such as a download that was given up, is not waited for.
    runtime.shutdown_timeout(GOODBYE);
    done
}

async fn serve(config: Config) -> Result<(), String> {
    let address = config.address;
    let has_auth = config.has_auth();
    let app = App::open(config)?;
    let bind = |address| server::bind(address).map_err(|error| format!("{address}: {error}"));
    let listener = bind(address)?;
    if let Some(address) = app.config.metrics_address {
        tokio::spawn(server::serve_metrics(Arc::clone(&app), bind(address)?));
    }
    if !has_auth {
        tracing::warn!(
            "JWT_SECRET and ECHO_API_KEYS are not set: anybody who reaches {address} may use it"
        );
    }
    let bound = listener.local_addr().map_err(|error| error.to_string())?;
    tracing::info!(address = %bound, model = %app.config.model, "listening");
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let second = Arc::clone(&app);
    let (told, stop) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = second.stop.notified() => {}
        }
        let _ = told.send(());
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        second.drain(Drain::Releasing);
    });
    server::serve(app, listener, async { stop.await.unwrap_or_default() }).await;
    tracing::info!("stopped");
    Ok(())
}

async fn work(config: Config) -> Result<(), String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let stop = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    remote::work(config, stop).await
}

fn check_config(given: &Given) -> ExitCode {
    match config::effective(given) {
        Ok(values) => {
            let lines: Vec<String> =
                values.iter().map(|(name, value)| format!("{name}={value}")).collect();
            say(&lines.join("\n"))
        }
        Err(error) => fail(EX_CONFIG, &error.to_string()),
    }
}

/// A bearer token if there is a secret to sign it with, else a key and what to configure for it.
fn token(config: &Config, tenant: String, scope: String, hours: u32) -> String {
    let Some(secret) = &config.jwt_secret else {
        let key = format!("{KEY_PREFIX}{}", secrets::token());
        let hash = secrets::sha256_hex(&key);
        return format!("{key}\nECHO_API_KEYS={tenant}:{hash}:{}", scope.replace(' ', "+"));
    };
    let exp = clock::now_ms() / 1000 + i64::from(hours) * 3600;
    let claims = Claims { sub: tenant, exp, nbf: None, tid: None, scope, aud: "echo".into() };
    sign(&claims, secret)
}

/// Asks `/health/live` over the loopback address.
fn healthcheck(address: SocketAddr) -> Result<(), String> {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::LOCALHOST),
    };
    let address = SocketAddr::new(ip, address.port());
    let patience = Duration::from_secs(5);
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(
            b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        )?;
        let mut answer = String::new();
        stream.take(4096).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error| format!("{address}: {error}"))?;
    if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(format!("{address} is not well")) }
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
fn say(text: &str) -> ExitCode {
    println!("{}", text.trim_end());
    ExitCode::SUCCESS
}

/// The environment, over the variables of a file.
fn given(file: Option<&Path>) -> Result<Given, String> {
    let mut given = Given::new();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((name, value)) = line.split_once('=') else {
                return Err(format!("{}:{}: expected NAME=value", path.display(), number + 1));
            };
            given.insert(name.trim().to_owned(), value.trim().trim_matches('"').to_owned());
        }
    }
    given.extend(std::env::vars());
    Ok(given)
}

fn log(is_json: bool, default: &str) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if is_json { builder.json().init() } else { builder.with_ansi(false).init() }
}

#[expect(clippy::print_stderr, reason = "the last word of the command")]
fn fail(code: u8, reason: &str) -> ExitCode {
    eprintln!("echo-server: {reason}");
    ExitCode::from(code)
}
