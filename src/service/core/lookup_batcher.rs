//! Combines look-ups of concurrent requests: those that arrive while a query runs are answered together by the next
//! one. One query for many keys costs the database hardly more than for one.
//!
//! No answer comes from a query that began before its question, so that no answer outlives a revocation. Never here:
//! the meaning of the answers.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    hash::Hash,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use super::{error::ServiceError, pacing, vitals::Vitals};
use crate::store::{Db, PoolRole, Reached, Sought, StoreError};

/// How many questions may wait before requests are turned away.
const QUEUE: usize = 4096;
/// How many questions one query answers.
const BATCH: usize = 256;
/// The longest rest after a query while several requests ask. Without a rest the database would answer a few questions
/// at a time and do little else, which would delay commits.
const LONGEST_REST: Duration = Duration::from_millis(5);

/// Looks up values by keys of one kind. Cheap to clone.
pub struct LookupBatcher<K, V> {
    queue: mpsc::Sender<Question<K, V>>,
}

struct Question<K, V> {
    key: K,
    reply: Reply<V>,
}

type Reply<V> = oneshot::Sender<Result<Option<V>, Arc<StoreError>>>;

impl<K, V> Clone for LookupBatcher<K, V> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<K, V> fmt::Debug for LookupBatcher<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LookupBatcher")
    }
}

impl<K, V> LookupBatcher<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + 'static,
{
    /// Starts a batcher that looks up distinct keys with `ask`.
    pub fn open<F>(vitals: &Vitals, ask: impl Fn(Vec<K>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<HashMap<K, V>, StoreError>> + Send,
    {
        let (queue, mut questions) = mpsc::channel::<Question<K, V>>(QUEUE);
        let vitals = vitals.clone();
        tokio::spawn(
            async move { while vitals.watch("look-ups", answer_all(&ask, &mut questions)).await.is_none() {} },
        );
        Self { queue }
    }

    /// Looks up the current value of `key`.
    pub async fn find(&self, key: K) -> Result<Option<V>, ServiceError> {
        let unavailable = |why: &str| ServiceError::Unavailable { what: "the database", source: why.into() };
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(Question { key, reply }).map_err(|_| unavailable("too many look-ups are waiting"))?;
        answer.await.map_err(|_| unavailable("the server is stopping"))?.map_err(ServiceError::from)
    }
}

async fn answer_all<K, V, F>(ask: &impl Fn(Vec<K>) -> F, questions: &mut mpsc::Receiver<Question<K, V>>)
where
    K: Clone + Eq + Hash,
    V: Clone,
    F: Future<Output = Result<HashMap<K, V>, StoreError>>,
{
    let mut waiting = Vec::with_capacity(BATCH);
    while gather(questions, &mut waiting, BATCH).await > 0 {
        let (begun, is_alone) = (Instant::now(), waiting.len() == 1);
        let mut by_key = HashMap::<K, Vec<Reply<V>>>::with_capacity(waiting.len());
        for question in waiting.drain(..) {
            by_key.entry(question.key).or_default().push(question.reply);
        }
        match ask(by_key.keys().cloned().collect()).await {
            Ok(found) => by_key.into_iter().for_each(|(key, replies)| answer(replies, &Ok(found.get(&key).cloned()))),
            // One key that the database cannot handle must not cost the others their answers.
            Err(error) if by_key.len() > 1 && !error.is_outage() => {
                for (key, replies) in by_key {
                    let found = ask(vec![key.clone()]).await;
                    answer(replies, &found.map(|mut found| found.remove(&key)).map_err(Arc::new));
                }
            }
            Err(error) => answer(by_key.into_values().flatten(), &Err(Arc::new(error))),
        }
        if (!is_alone || !questions.is_empty()) && questions.len() < BATCH {
            pacing::rest(begun, LONGEST_REST).await;
        }
    }
}

/// Receives the waiting items, then yields once to collect those of tasks that are about to run; otherwise the first
/// item, which wakes the receiver, would be handled alone.
pub(in crate::service) async fn gather<T>(queue: &mut mpsc::Receiver<T>, taken: &mut Vec<T>, most: usize) -> usize {
    let first = queue.recv_many(taken, most).await;
    if first == 0 || first == most {
        return first;
    }
    tokio::task::yield_now().await;
    while taken.len() < most
        && let Ok(next) = queue.try_recv()
    {
        taken.push(next);
    }
    taken.len()
}

fn answer<V: Clone>(replies: impl IntoIterator<Item = Reply<V>>, found: &Result<Option<V>, Arc<StoreError>>) {
    for reply in replies {
        // A requester that has gone needs no answer.
        let _ = reply.send(found.clone());
    }
}

impl LookupBatcher<Sought, Reached> {
    /// Starts the batcher that looks up the facts for deciding recipients' requests in `db`.
    pub fn of(db: &Db, vitals: &Vitals) -> Self {
        let db = db.apart(PoolRole::LookUps);
        Self::open(vitals, move |sought: Vec<Sought>| {
            let db = db.clone();
            async move { db.find_reached(&sought).await }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    #[tokio::test]
    async fn questions_of_the_same_time_share_a_query() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let batcher = LookupBatcher::open(&Vitals::default(), move |keys: Vec<u32>| {
            log.lock().unwrap().push(keys.len());
            async move { Ok(keys.into_iter().filter(|key| key % 2 == 0).map(|key| (key, key * 10)).collect()) }
        });
        let answers = futures::future::join_all((0..100).map(|number| batcher.find(number % 10))).await;
        for (number, answer) in (0..100).zip(answers) {
            let key = number % 10;
            assert_eq!(answer.unwrap(), (key % 2 == 0).then_some(key * 10));
        }
        assert_eq!(*asked.lock().unwrap(), [10]);
    }

    #[tokio::test]
    async fn a_key_that_cannot_be_looked_up_costs_nobody_else_an_answer() {
        let queries = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&queries);
        let batcher = LookupBatcher::open(&Vitals::default(), move |keys: Vec<u32>| {
            count.fetch_add(1, Ordering::SeqCst);
            async move {
                if keys.contains(&13) {
                    return Err(StoreError::Corrupt("tokens.hash"));
                }
                Ok(keys.into_iter().map(|key| (key, key)).collect())
            }
        });
        let (good, bad) = tokio::join!(batcher.find(1), batcher.find(13));
        assert_eq!(good.unwrap(), Some(1));
        assert!(matches!(bad, Err(ServiceError::Internal(_))));
        assert_eq!(queries.load(Ordering::SeqCst), 3);
    }
}
