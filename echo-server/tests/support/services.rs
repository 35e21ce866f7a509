//! Real servers as processes on loopback, each in a folder of its own, killed with the test.
//!
//! They are Debian's packages `postgresql`, `nats-server` and `redis-server`, and `moto[server]` from `PyPI`;
//! where one is not installed, the test that needs it says so and passes over.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The longest that a server may take to answer.
const START_TIME: Duration = Duration::from_secs(60);

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A process that can be killed and started again with the same data.
pub struct Service {
    pub port: u16,
    pub folder: PathBuf,
    command: Box<dyn Fn() -> Command + Send>,
    is_up: Box<dyn Fn() -> bool + Send>,
    process: Option<Child>,
}

impl Service {
    fn start(
        port: u16,
        folder: &Path,
        command: impl Fn() -> Command + Send + 'static,
        is_up: impl Fn() -> bool + Send + 'static,
    ) -> Self {
        let mut service = Self {
            port,
            folder: folder.to_path_buf(),
            command: Box::new(command),
            is_up: Box::new(is_up),
            process: None,
        };
        service.revive();
        service
    }

    /// Starts it again, and waits until it answers.
    pub fn revive(&mut self) {
        self.begin();
        let deadline = Instant::now() + START_TIME;
        while !(self.is_up)() {
            assert!(Instant::now() < deadline, "{:?} does not answer", (self.command)());
            // PostgreSQL refuses to start beside backends that have not noticed its death yet.
            if self.process.as_mut().is_none_or(|one| !matches!(one.try_wait(), Ok(None))) {
                self.begin();
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Starts it again, and waits for nothing.
    pub fn begin(&mut self) {
        let mut command = (self.command)();
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if std::env::var_os("ECHO_TEST_SHOW").is_none() {
            command.stderr(Stdio::null());
        }
        self.process = Some(command.spawn().unwrap());
    }

    /// Sends a signal to it and to the processes that it started.
    pub fn signal(&self, name: &str) {
        let Some(process) = &self.process else { return };
        let pid = process.id();
        let own = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let own = own.unwrap_or_default();
        let all = own.split_whitespace().map(ToOwned::to_owned).chain([pid.to_string()]);
        let sent = Command::new("kill").args(["-s", name]).args(all).status();
        assert!(sent.unwrap().success());
    }

    /// The number of its process, while there is one.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Kills it, the hard way.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!(
        "echo-server-{name}-{}-{}",
        std::process::id(),
        free_port()
    ));
    std::fs::create_dir_all(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn is_listening(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// PostgreSQL with a database `echo` for everybody; `None` where it is not installed.
pub fn postgres() -> Option<Service> {
    let Some(bin) = postgres_programs() else {
        println!("skipped: install postgresql");
        return None;
    };
    let folder = folder("postgres");
    let data = folder.join("data");
    std::fs::create_dir(&data).unwrap();
    let user = unprivileged();
    if let Some((uid, gid)) = user {
        chown(&data, Some(uid), Some(gid)).unwrap();
    }
    let as_user = move |program: PathBuf| {
        let mut command = Command::new(program);
        command.current_dir("/").env("LC_ALL", "C.UTF-8");
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid);
        }
        command
    };
    let mut initdb = as_user(bin.join("initdb"));
    initdb.args(["--no-sync", "--auth=trust", "--username=echo", "--encoding=UTF8", "-D"]);
    let made = initdb.arg(&data).stdout(Stdio::null()).status().unwrap();
    assert!(made.success(), "initdb failed");
    let port = free_port();
    let ready = bin.join("pg_isready");
    Some(Service::start(
        port,
        &folder,
        move || {
            let mut server = as_user(bin.join("postgres"));
            server.arg("-D").arg(&data).args(["-p", &port.to_string(), "-k", ""]);
            server.args(["-h", "127.0.0.1", "-c", "fsync=off", "-c", "max_connections=200"]);
            server
        },
        move || {
            let port = port.to_string();
            let mut ready = Command::new(&ready);
            ready.args(["-q", "-h", "127.0.0.1", "-U", "echo", "-d", "postgres", "-p", &port]);
            ready.status().is_ok_and(|status| status.success())
        },
    ))
}

/// The address of its database.
pub fn postgres_url(service: &Service) -> String {
    postgres_url_at(service.port)
}

/// The same at another port, from where a wire leads to it.
pub fn postgres_url_at(port: u16) -> String {
    format!("postgresql+asyncpg://echo@127.0.0.1:{port}/postgres")
}

/// A server of NATS with JetStream; `None` where it is not installed.
pub fn nats() -> Option<Service> {
    let program = program("nats-server")?;
    let (folder, port) = (folder("nats"), free_port());
    let data = folder.clone();
    let command = move || {
        let mut server = Command::new(&program);
        server.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"]).arg(&data);
        server
    };
    Some(Service::start(port, &folder, command, move || is_listening(port)))
}

/// Redis as a cache; `None` where it is not installed.
pub fn redis() -> Option<Service> {
    let program = program("redis-server")?;
    let (folder, port) = (folder("redis"), free_port());
    let command = move || {
        let mut server = Command::new(&program);
        server.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        server
    };
    Some(Service::start(port, &folder, command, move || is_listening(port)))
}

/// The bucket of [`moto`].
const BUCKET: &str = "sound";

/// S3 as `moto` pretends it, with a bucket; `None` where it is not installed.
///
/// It keeps everything in memory and forgets it when it is killed.
pub fn moto() -> Option<Service> {
    // `.ci/test` installs it with the packages of the Python tests.
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin/moto_server");
    let program = if own.is_file() { own } else { program("moto_server")? };
    let (folder, port) = (folder("moto"), free_port());
    let command = move || {
        let mut server = Command::new(&program);
        server.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        // Larger objects go to files, which are gone with it.
        server.env("MOTO_S3_DEFAULT_KEY_BUFFER_SIZE", "65536");
        server
    };
    let bucket = format!("http://127.0.0.1:{port}/{BUCKET}");
    Some(Service::start(port, &folder, command, move || ureq::put(&bucket).send_empty().is_ok()))
}

/// The variables that lead a server to the bucket at this port; requests take seconds, not a minute.
pub fn bucket(port: u16) -> Vec<(String, String)> {
    let endpoint = format!("http://127.0.0.1:{port}");
    let all = [
        ("ECHO_STORAGE_URL", format!("s3://{BUCKET}/echo")),
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("AWS_TIMEOUT", "4s".to_owned()),
    ];
    all.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

/// What the bucket answers to a question such as `list-type=2`.
pub fn ask_bucket(service: &Service, query: &str) -> String {
    let url = format!("http://127.0.0.1:{}/{BUCKET}?{query}", service.port);
    ureq::get(&url).call().unwrap().body_mut().read_to_string().unwrap()
}

/// The keys of all its objects.
pub fn objects(service: &Service) -> Vec<String> {
    let listed = ask_bucket(service, "list-type=2");
    let keys = listed.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
    keys.map(ToOwned::to_owned).collect()
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let found = folders.map(|folder| folder.join(name)).find(|program| program.is_file());
    if found.is_none() {
        println!("skipped: install {name}");
    }
    found
}

/// The newest version's programs, which Debian keeps out of the path.
fn postgres_programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    found.retain(|bin| bin.join("initdb").is_file());
    found.sort();
    found.pop()
}

/// PostgreSQL refuses to run as root; its package brings a user.
fn unprivileged() -> Option<(u32, u32)> {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let user = users.lines().find(|line| line.starts_with("postgres:")).unwrap();
    let fields: Vec<&str> = user.split(':').collect();
    Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
}
