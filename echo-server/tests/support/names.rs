//! A name server that says what it is told to, and a server of ours that asks nobody else.

use std::collections::HashMap;
use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};

use super::Folder;

/// Where it listens: resolvers know no port but 53, and on this loopback address nobody else has it.
const ADDRESS: &str = "127.0.53.53";

/// Binds the file `$0` over the resolver's configuration, for the command that follows and nobody else.
const WITHIN: &str = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";

/// A name server.
pub struct NameServer {
    asked: Arc<Mutex<HashMap<String, usize>>>,
}

impl NameServer {
    /// Answers with what `find` makes of a name and of how often its IPv4 addresses were asked for.
    pub fn start(find: impl Fn(&str, usize) -> Vec<IpAddr> + Send + 'static) -> Option<Self> {
        let Ok(socket) = UdpSocket::bind((ADDRESS, 53)) else {
            println!("skipped: only root may listen on port 53");
            return None;
        };
        let server = Self { asked: Arc::default() };
        let asked = Arc::clone(&server.asked);
        std::thread::spawn(move || {
            let mut packet = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut packet) {
                let Some((name, end, kind)) = question(&packet[..length]) else { continue };
                let count = {
                    let mut asked = asked.lock().unwrap();
                    let count = asked.entry(name.clone()).or_default();
                    *count += usize::from(kind == 1);
                    *count
                };
                let found = find(&name, count.max(1));
                let _ = socket.send_to(&reply(&packet[..end], kind, &found), from);
            }
        });
        Some(server)
    }

    /// How often the IPv4 addresses of a name were asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().get(name).copied().unwrap_or(0)
    }

    /// A command that runs the one after it with this name server and no other.
    pub fn wrapper(&self, folder: &Folder) -> Option<Vec<String>> {
        let file = folder.0.join("resolv.conf");
        std::fs::write(&file, format!("nameserver {ADDRESS}\noptions timeout:2\n")).unwrap();
        let file = file.to_str()?;
        let wrapper = ["unshare", "--mount", "sh", "-c", WITHIN, file].map(ToOwned::to_owned);
        let mut trial = Command::new(&wrapper[0]);
        if trial.args(&wrapper[1..]).arg("true").output().is_ok_and(|done| done.status.success()) {
            return Some(wrapper.to_vec());
        }
        println!("skipped: a process cannot be given a name server of its own here");
        None
    }
}

/// The name that is asked for, where the question ends, and the kind of record.
fn question(packet: &[u8]) -> Option<(String, usize, u16)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*packet.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(packet.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?);
    Some((labels.join("."), at + 4, kind))
}

fn reply(question: &[u8], kind: u16, found: &[IpAddr]) -> Vec<u8> {
    let mut records = Vec::new();
    let mut count = 0_u8;
    for address in found {
        let data = match (kind, address) {
            (1, IpAddr::V4(v4)) => v4.octets().to_vec(),
            (28, IpAddr::V6(v6)) => v6.octets().to_vec(),
            _ => continue,
        };
        count += 1;
        // The name of the question, the class of the internet, to be forgotten at once.
        records.extend_from_slice(&[
            0xc0,
            12,
            0,
            kind as u8,
            0,
            1,
            0,
            0,
            0,
            0,
            0,
            data.len() as u8,
        ]);
        records.extend_from_slice(&data);
    }
    let mut reply = question.to_vec();
    reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0]);
    reply.extend_from_slice(&records);
    reply
}
