//! A worker process and the pipes to it.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::{Event, Hello, Order};
use crate::config::Config;

/// A line longer than this is no transcript.
const MAX_LINE_BYTES: usize = 256 << 20;
/// How long a process has to end by itself when nobody speaks to it any more.
const GOODBYE: Duration = Duration::from_millis(200);

/// A process that holds the model.
pub(crate) struct Process {
    child: Child,
    orders: ChildStdin,
    events: BufReader<ChildStdout>,
    line: Vec<u8>,
}

/// Why the events of a process have ended.
#[derive(Debug)]
pub(crate) enum Gone {
    /// It died.
    Dead,
    /// It told what cannot be understood.
    Nonsense,
}

impl Process {
    /// Starts a process and waits until it is ready; says where it computes.
    ///
    /// # Errors
    /// A sentence about what went wrong.
    pub(crate) async fn start(
        config: &Config,
        program: Option<&Path>,
    ) -> Result<(Self, String), String> {
        let mut child =
            command(program).map_err(|error| format!("a worker could not be started: {error}"))?;
        let (Some(orders), Some(events)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a worker has no pipes".to_owned());
        };
        let mut process = Self { child, orders, events: BufReader::new(events), line: Vec::new() };
        process.tell(&Order::Hello(hello(config))).await.map_err(|error| error.to_string())?;
        loop {
            match process.next().await {
                Ok(Event::Ready { device, .. }) => return Ok((process, device)),
                Ok(Event::Unready { message }) => return Err(message),
                Ok(_) => {}
                Err(_) => return Err("a worker died while it was starting".to_owned()),
            }
        }
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Whether it has not ended.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Gives an order.
    ///
    /// # Errors
    /// If the process is gone.
    pub(crate) async fn tell(&mut self, order: &Order) -> io::Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.orders.write_all(&line).await
    }

    /// The next event. May be dropped while it waits: what was read so far is kept.
    ///
    /// # Errors
    /// If there will be none.
    pub(crate) async fn next(&mut self) -> Result<Event, Gone> {
        loop {
            let chunk = self.events.fill_buf().await.map_err(|_| Gone::Dead)?;
            if chunk.is_empty() {
                return Err(Gone::Dead);
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(chunk.len(), |end| end + 1);
            self.line.extend_from_slice(&chunk[..taken]);
            self.events.consume(taken);
            if self.line.len() > MAX_LINE_BYTES {
                return Err(Gone::Nonsense);
            }
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                return serde_json::from_slice(&line).map_err(|_| Gone::Nonsense);
            }
        }
    }

    /// Ends the process.
    pub(crate) async fn bury(mut self) {
        drop(self.orders);
        if timeout(GOODBYE, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

fn hello(config: &Config) -> Hello {
    Hello {
        model: config.model.clone(),
        diarization_model: config.diarization_model.clone(),
        model_dir: config.model_dir.clone(),
        device: config.device.clone(),
        compute_type: config.compute_type.clone(),
        threads: config.worker_threads,
        memory_bytes: config.worker_memory_bytes,
        heartbeat_ms: u64::try_from(config.heartbeat.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Starts `echo-server child`. It inherits no variables but those that say where things are.
fn command(program: Option<&Path>) -> io::Result<Child> {
    let mut command = match program {
        Some(program) => Command::new(program),
        None => Command::new(std::env::current_exe()?),
    };
    command.arg("child").env_clear();
    for (name, value) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_place = ["PATH", "HOME", "USER", "LANG", "TMPDIR", "RUST_LOG", "LD_LIBRARY_PATH"];
        let prefixes =
            ["XDG_", "HF_", "CUDA_", "NVIDIA_", "RAYON_", "ECHO_CACHE", "ECHO_CPU", "ECHO_TEST_"];
        if is_place.contains(&&*text) || prefixes.iter().any(|prefix| text.starts_with(prefix)) {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()
}
