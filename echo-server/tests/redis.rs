//! Results in a real Redis, and what happens when it goes.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use support::{Folder, TestServer, eventually, wav};

struct Redis(Child);

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(port: u16) -> Option<Redis> {
    let port = port.to_string();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port, "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]);
    command.stdout(Stdio::null()).spawn().ok().map(Redis)
}

fn ask(port: u16, command: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn results_are_kept_in_redis_and_nothing_fails_without_it() {
    let folder = Folder::new("redis");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let Some(redis) = start(port) else {
        println!("skipped: install redis-server");
        return;
    };
    eventually("Redis", || ask(port, "PING").filter(|answer| answer.contains("PONG")));
    let url = format!("redis://127.0.0.1:{port}");
    let server = TestServer::scripted(&folder, &[("REDIS_URL", &*url)]);
    let id = server.upload(&wav(0.1, 1), &[]).job_id();
    assert_eq!(server.wait(&id)["result"]["text"], "pretended");
    let keys = ask(port, "KEYS echo:v1:res:*").unwrap();
    assert!(keys.starts_with("*1\r\n"), "{keys}");
    assert_eq!(server.get("/health").json()["checks"]["cache"], "redis");
    drop(redis);
    let id = server.upload(&wav(0.1, 2), &[]).job_id();
    assert_eq!(server.wait(&id)["result"]["text"], "pretended");
    assert_eq!(server.upload(&wav(0.1, 2), &[]).status, 200);
    assert_eq!(server.get("/health").json()["checks"]["cache"], "memory");
}
