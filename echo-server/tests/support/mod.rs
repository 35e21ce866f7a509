//! A server as a process, and a client to talk to it.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "as in the tests themselves")]

pub mod elsewhere;
pub mod fleet;
pub mod names;
pub mod proxy;
pub mod receiver;
pub mod schema;
pub mod services;
pub mod wire;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The longest that any condition is waited for.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A folder of a test, removed with it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("echo-server-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What is known at the end of a request.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn job_id(&self) -> String {
        let json = self.json();
        json["job_id"].as_str().unwrap_or_else(|| panic!("no job: {json}")).to_owned()
    }
}

/// A running `echo-server serve`.
pub struct TestServer {
    pub process: Child,
    pub base: String,
    variables: Vec<(String, String)>,
    build: PathBuf,
    wrapper: Vec<String>,
    folder: PathBuf,
    pub token: Option<String>,
}

impl TestServer {
    /// A server with the real model of `ECHO_TEST_STORE`; `None` where there is none.
    pub fn with_model(folder: &Folder, variables: &[(&str, &str)]) -> Option<Self> {
        let Some(store) = std::env::var_os("ECHO_TEST_STORE") else {
            println!("skipped: set ECHO_TEST_STORE to a model folder that holds `base`");
            return None;
        };
        let mut all = vec![("ECHO_MODEL_DIR", store.to_str().unwrap()), ("ECHO_MODEL", "base")];
        all.extend_from_slice(variables);
        Some(Self::start(folder, &all))
    }

    /// A server whose worker only pretends: see `examples/scripted_worker.rs`.
    pub fn scripted(folder: &Folder, variables: &[(&str, &str)]) -> Self {
        let worker = scripted_worker();
        let mut all = vec![("ECHO_TEST_WORKER", worker.to_str().unwrap())];
        all.extend_from_slice(variables);
        Self::start(folder, &all)
    }

    /// The same, started by a command that is followed by the program and its arguments.
    pub fn scripted_by(wrapper: &[&str], folder: &Folder, variables: &[(&str, &str)]) -> Self {
        let worker = scripted_worker();
        let mut all = vec![("ECHO_TEST_WORKER", worker.to_str().unwrap())];
        all.extend_from_slice(variables);
        Self::start_by(wrapper, &this_build(), folder, &all)
    }

    pub fn start(folder: &Folder, variables: &[(&str, &str)]) -> Self {
        Self::start_by(&[], &this_build(), folder, variables)
    }

    /// A server of another build.
    pub fn of(build: &Path, folder: &Folder, variables: &[(&str, &str)]) -> Self {
        Self::start_by(&[], build, folder, variables)
    }

    fn start_by(
        wrapper: &[&str],
        build: &Path,
        folder: &Folder,
        variables: &[(&str, &str)],
    ) -> Self {
        let mut all: Vec<(String, String)> = [
            ("PORT", "0"),
            ("ECHO_DRAIN_DELAY", "0"),
            ("ECHO_MIN_FREE_DISK", "1MB"),
            ("REDIS_URL", "redis://127.0.0.1:1"),
            ("RUST_LOG", "info"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        all.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let wrapper: Vec<String> = wrapper.iter().map(|&part| part.to_owned()).collect();
        let (process, base) = spawn(&wrapper, build, &folder.0, &all);
        let (build, folder) = (build.to_owned(), folder.0.clone());
        Self { process, base, variables: all, build, wrapper, folder, token: None }
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub fn restart(&mut self) {
        (self.process, self.base) =
            spawn(&self.wrapper, &self.build, &self.folder, &self.variables);
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        try_send(&self.base, method, path, &self.headers(headers), body).unwrap()
    }

    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<Reply> {
        try_send(&self.base, method, path, &self.headers(headers), body).ok()
    }

    fn headers(&self, headers: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut all: Vec<_> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        all.extend(self.token.iter().map(|t| ("authorization".to_owned(), format!("Bearer {t}"))));
        all
    }

    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"")
    }

    pub fn upload(&self, file: &[u8], fields: &[(&str, &str)]) -> Reply {
        let (kind, body) = form(file, "sound.wav", fields);
        self.send("POST", "/api/v1/upload/file", &[("content-type", &kind)], &body)
    }

    pub fn job(&self, id: &str) -> Value {
        self.get(&format!("/api/v1/transcription/{id}?include=none")).json()
    }

    /// Waits until a job is over.
    pub fn wait(&self, id: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reply = self.get(&format!("/api/v1/transcription/{id}?wait=10"));
            let job = reply.json();
            if ["completed", "failed", "cancelled"].contains(&job["status"].as_str().unwrap_or(""))
            {
                return job;
            }
            assert!(Instant::now() < deadline, "still {job}");
        }
    }

    /// Runs another command of the program with the same variables, to its end.
    pub fn run(&self, command: &str) {
        let mut program = program(&self.wrapper, &self.build, command, &self.folder);
        let ended = program.envs(self.variables.iter().cloned()).stderr(Stdio::null()).status();
        assert!(ended.unwrap().success(), "{command}");
    }

    /// Process numbers of the workers.
    pub fn workers(&self) -> Vec<u32> {
        let mut all = Vec::new();
        for task in std::fs::read_dir(format!("/proc/{}/task", self.process.id()))
            .into_iter()
            .flatten()
            .flatten()
        {
            let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        all
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A running `echo-server worker`, whose process only pretends to hold a model.
pub struct TestWorker {
    pub process: Child,
}

impl TestWorker {
    pub fn start(folder: &Folder, variables: &[(&str, &str)]) -> Self {
        Self::of(&this_build(), folder, variables)
    }

    /// The same of another build.
    pub fn of(build: &Path, folder: &Folder, variables: &[(&str, &str)]) -> Self {
        let program = scripted_worker();
        let pretended = ("ECHO_TEST_WORKER", program.to_str().unwrap());
        Self::run(build, folder, &[&[pretended], variables].concat())
    }

    /// One whose process holds the model that the variables name.
    pub fn with_model(folder: &Folder, variables: &[(&str, &str)]) -> Self {
        Self::run(&this_build(), folder, variables)
    }

    fn run(build: &Path, folder: &Folder, variables: &[(&str, &str)]) -> Self {
        let mut command = program(&[], build, "worker", &folder.0);
        command.env("RUST_LOG", "info").envs(variables.iter().copied());
        if std::env::var_os("ECHO_TEST_SHOW").is_none() {
            command.stderr(Stdio::null());
        }
        Self { process: command.spawn().unwrap() }
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for TestWorker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Tells a process to end, and waits until it has.
pub fn terminate(process: &mut Child) {
    let pid = process.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    assert!(process.wait().unwrap().success());
}

fn this_build() -> PathBuf {
    env!("CARGO_BIN_EXE_echo-server").into()
}

fn program(wrapper: &[String], build: &Path, command: &str, folder: &Path) -> Command {
    let mut program = match wrapper.split_first() {
        None => Command::new(build),
        Some((first, rest)) => {
            let mut wrapper = Command::new(first);
            wrapper.args(rest).arg(build);
            wrapper
        }
    };
    program.arg(command).current_dir(folder).env_clear();
    for name in ["PATH", "HOME", "LD_LIBRARY_PATH", "TMPDIR"] {
        program.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    program
}

fn spawn(
    wrapper: &[String],
    build: &Path,
    folder: &Path,
    variables: &[(String, String)],
) -> (Child, String) {
    let mut command = program(wrapper, build, "serve", folder);
    command.envs(variables.iter().cloned());
    let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut heard = String::new();
    let base = loop {
        let line = lines.next().unwrap_or_else(|| panic!("the server ended: {heard}")).unwrap();
        if let Some((_, address)) = line.split_once("address=") {
            break format!("http://{}", address.split_whitespace().next().unwrap());
        }
        heard.push_str(&line);
        heard.push('\n');
    };
    // Somebody must read, or the server would wait for room in the pipe.
    std::thread::spawn(move || {
        let is_shown = std::env::var_os("ECHO_TEST_SHOW").is_some();
        for line in lines.map_while(Result::ok) {
            // What explains a failure is heard in any case.
            if is_shown || line.contains(" WARN ") || line.contains("ERROR ") {
                println!("server: {line}");
            }
        }
    });
    (process, base)
}

fn scripted_worker() -> PathBuf {
    this_build().parent().unwrap().join("examples/scripted_worker")
}

pub fn try_send(
    base: &str,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> Result<Reply, ureq::Error> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_global(Some(Duration::from_secs(100)))
        .build();
    let agent: ureq::Agent = config.into();
    let mut request = ureq::http::Request::builder().method(method).uri(format!("{base}{path}"));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(body.to_vec()).unwrap();
    let mut response = agent.run(request)?;
    let mut bytes = Vec::new();
    response.body_mut().as_reader().read_to_end(&mut bytes)?;
    Ok(Reply {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: bytes,
    })
}

/// A form: its content type and its body.
pub fn form(file: &[u8], name: &str, fields: &[(&str, &str)]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, value) in fields {
        let part =
            format!("--sep\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    let head = format!(
        "--sep\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
         content-type: application/octet-stream\r\n\r\n"
    );
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(file);
    body.extend_from_slice(b"\r\n--sep--\r\n");
    ("multipart/form-data; boundary=sep".to_owned(), body)
}

/// A WAV file of silence, different for each `mark`.
pub fn wav(seconds: f64, mark: u32) -> Vec<u8> {
    let samples = (seconds * 16_000.0) as u32;
    let size = samples * 2;
    let mut wav = Vec::new();
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&(36 + size).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend_from_slice(&16_000_u32.to_le_bytes());
    wav.extend_from_slice(&32_000_u32.to_le_bytes());
    wav.extend_from_slice(b"\x02\0\x10\0data");
    wav.extend_from_slice(&size.to_le_bytes());
    wav.extend_from_slice(&mark.to_le_bytes());
    wav.resize(44 + size as usize, 0);
    wav
}

/// Waits for a condition.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// The recording that the repository carries.
pub fn dialogue() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/media/dialogue.opus");
    std::fs::read(path).unwrap()
}

/// The segments that a reader of a finished job's events is told, and restarts.
pub fn segments_told(server: &TestServer, id: &str) -> Vec<String> {
    let events = server.get(&format!("/api/v1/transcription/{id}/events")).text();
    let (mut kind, mut told) = (String::new(), Vec::new());
    for line in events.lines() {
        if let Some(text) = line.strip_prefix("event: ") {
            text.clone_into(&mut kind);
        } else if let Some(data) = line.strip_prefix("data: ") {
            let data: Value = serde_json::from_str(data).unwrap();
            match kind.as_str() {
                "segment" => told.push(data["text"].as_str().unwrap().to_owned()),
                "restart" => told.push("restart".to_owned()),
                _ => {}
            }
        }
    }
    told
}

/// What the scripted worker says with so many more segments.
pub fn pretended(more_segments: u32) -> Vec<String> {
    let more = (1..=more_segments).map(|count| format!("pretended {count}"));
    std::iter::once("pretended".to_owned()).chain(more).collect()
}
