//! Runs the simplest possible server with a durable trail, to be measured next to the real one:
//! `yardstick_server TOKENS_FILE`, with an empty database in `DATABASE_URL`.
//!
//! Uses the same HTTP stack. Each request looks up its token with a prepared statement and adds one row. The rows of
//! concurrent requests are written in one statement, and so one commit, for which the requests wait. Prints its port.

use std::{
    error::Error,
    fs,
    net::TcpListener,
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::any,
};
use axum_server::accept::NoDelayAcceptor;
use http::{HeaderMap, StatusCode, header::AUTHORIZATION};
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

type Failure = Box<dyn Error + Send + Sync>;

/// The server's default number of connections.
const CONNECTIONS: u32 = 16;
const LONGEST_BATCH: usize = 512;
const QUEUE: usize = 4_096;
/// The approximate size of an audit event.
const BODY_BYTES: usize = 600;

const TABLES: &str = "CREATE TABLE tokens (id uuid PRIMARY KEY, hash bytea NOT NULL UNIQUE, recipient text NOT NULL); \
    CREATE TABLE events (seq bigint PRIMARY KEY, at bigint NOT NULL, token_id uuid NOT NULL, body text NOT NULL)";

#[derive(Clone)]
struct Yardstick {
    pool: PgPool,
    trail: mpsc::Sender<Entry>,
}

/// A row with a waiting request; the reply tells whether the row was written.
struct Entry {
    token_id: Uuid,
    body: String,
    reply: oneshot::Sender<bool>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (Ok(url), Some(tokens)) = (std::env::var("DATABASE_URL"), std::env::args().nth(1)) else {
        return Err("usage: DATABASE_URL=postgres://… yardstick_server TOKENS_FILE".into());
    };
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).test_before_acquire(false);
    let pool = pool.connect_with(PgConnectOptions::from_str(&url)?).await?;
    sqlx::raw_sql(TABLES).execute(&pool).await?;
    for (number, token) in fs::read_to_string(tokens)?.lines().enumerate() {
        sqlx::query("INSERT INTO tokens (id, hash, recipient) VALUES ($1, $2, $3)")
            .bind(Uuid::now_v7())
            .bind(&Sha256::digest(token)[..])
            .bind(format!("recipient {number}"))
            .execute(&pool)
            .await?;
    }
    let (trail, entries) = mpsc::channel(QUEUE);
    tokio::spawn(write_all(pool.clone(), entries));
    let router = Router::new().fallback(any(answer)).with_state(Yardstick { pool, trail });
    let socket = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", socket.local_addr()?.port());
    axum_server::from_tcp(socket)?.acceptor(NoDelayAcceptor::new()).serve(router.into_make_service()).await?;
    Ok(())
}

async fn answer(State(yardstick): State<Yardstick>, headers: HeaderMap) -> Response {
    match yardstick.take(&headers).await {
        Ok(()) => ([("delta-table-version", "1")], Json(json!({"version": 1}))).into_response(),
        Err(status) => status.into_response(),
    }
}

impl Yardstick {
    async fn take(&self, headers: &HeaderMap) -> Result<(), StatusCode> {
        let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let hash = Sha256::digest(token.ok_or(StatusCode::UNAUTHORIZED)?);
        let found: Option<(Uuid, String)> = sqlx::query_as("SELECT id, recipient FROM tokens WHERE hash = $1")
            .bind(&hash[..])
            .fetch_optional(&self.pool)
            .await
            .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
        let (token_id, recipient) = found.ok_or(StatusCode::UNAUTHORIZED)?;
        let body = format!("{recipient:BODY_BYTES$}");
        let (reply, is_written) = oneshot::channel();
        let entry = Entry { token_id, body, reply };
        self.trail.try_send(entry).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
        if is_written.await.unwrap_or(false) { Ok(()) } else { Err(StatusCode::SERVICE_UNAVAILABLE) }
    }
}

async fn write_all(pool: PgPool, mut entries: mpsc::Receiver<Entry>) {
    let (mut batch, mut seq) = (Vec::new(), 0_i64);
    while entries.recv_many(&mut batch, LONGEST_BATCH).await > 0 {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros());
        let (mut places, mut times, mut token_ids, mut bodies) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for entry in &mut batch {
            seq += 1;
            places.push(seq);
            times.push(i64::try_from(at).unwrap_or(i64::MAX));
            token_ids.push(entry.token_id);
            bodies.push(std::mem::take(&mut entry.body));
        }
        let written =
            sqlx::query("INSERT INTO events SELECT * FROM UNNEST($1::int8[], $2::int8[], $3::uuid[], $4::text[])")
                .bind(places)
                .bind(times)
                .bind(token_ids)
                .bind(bodies)
                .execute(&pool)
                .await;
        if let Err(error) = &written {
            eprintln!("the trail could not be written: {error}");
        }
        for entry in batch.drain(..) {
            // A request that is gone needs no reply.
            let _ = entry.reply.send(written.is_ok());
        }
    }
}
