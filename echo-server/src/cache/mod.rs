//! Results at hand: in this process, and in Redis where one answers.
//!
//! Only an accelerator. Whether a result exists is a row of the database, and its bytes are a file;
//! a cache that is empty, slow or gone costs a read of that file.

mod redis;

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use redis::Redis;

/// Bytes of results kept in this process.
const MAX_BYTES: usize = 64 << 20;

/// Results, most recently kept last.
#[derive(Debug)]
pub struct ResultCache {
    memory: Mutex<Memory>,
    redis: Option<Redis>,
    kept: Duration,
}

#[derive(Debug, Default)]
struct Memory {
    results: VecDeque<(String, Bytes)>,
    size_bytes: usize,
}

impl ResultCache {
    /// A cache in this process and, if it answers, in Redis.
    pub fn new(redis_url: &str, kept: Duration) -> Self {
        Self { memory: Mutex::default(), redis: Redis::from_url(redis_url), kept }
    }

    /// Keeps a result.
    pub async fn put(&self, key: &str, result: Bytes) {
        if let Some(redis) = &self.redis {
            redis.set(&redis_key(key), &result, self.kept).await;
        }
        self.remember(key, result);
    }

    /// A result, if it is at hand.
    pub async fn get(&self, key: &str) -> Option<Bytes> {
        if let Some(result) = self.recall(key) {
            return Some(result);
        }
        let result = self.redis.as_ref()?.get(&redis_key(key)).await?;
        self.remember(key, result.clone());
        Some(result)
    }

    /// Forgets a result that was erased.
    pub async fn remove(&self, key: &str) {
        if let Some(redis) = &self.redis {
            redis.remove(&redis_key(key)).await;
        }
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = memory.results.iter().position(|(known, _)| known == key)
            && let Some((_, result)) = memory.results.remove(at)
        {
            memory.size_bytes -= result.len();
        }
    }

    /// Where results are at hand.
    pub fn describe(&self) -> &'static str {
        if self.redis.as_ref().is_some_and(Redis::is_well) { "redis" } else { "memory" }
    }

    fn remember(&self, key: &str, result: Bytes) {
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

    fn recall(&self, key: &str) -> Option<Bytes> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.results.iter().find(|(known, _)| known == key).map(|(_, result)| result.clone())
    }
}

fn redis_key(key: &str) -> String {
    format!("echo:v1:res:{key}")
}
