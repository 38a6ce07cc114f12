//! Generates load, or unusual requests, on one thread over HTTP/1.1: `load closed|open|fetch|hold|slow …`; prints JSON.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    io::{self, ErrorKind},
    net::SocketAddr,
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use clap::{Args, Parser};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    signal::unix::{SignalKind, signal},
    sync::{Mutex, mpsc},
    task::{JoinSet, LocalSet, yield_now},
    time::{sleep, sleep_until},
};

type Failure = Box<dyn Error>;

/// The buffer for reading an answer. The next constant is the buffer of a slow reader, which is small so that little
/// data waits in this process.
const BUFFER: usize = 256 << 10;
const SLOW_BUFFER: usize = 8 << 10;
/// A runtime's timers are exact to a millisecond; the remaining time until a request is due is spent polling.
const TIMER_SLACK: Duration = Duration::from_millis(2);

/// A load generator on one thread.
#[derive(Parser)]
enum Mode {
    /// Use a number of connections, each of which sends a request as soon as the last is answered; finds the highest
    /// throughput.
    Closed {
        #[command(flatten)]
        asked: Asked,
        #[command(flatten)]
        period: Period,
    },
    /// Send requests at a fixed rate, even if earlier ones are not answered; latency counts from when each request was
    /// due.
    Open {
        #[command(flatten)]
        asked: Asked,
        #[command(flatten)]
        period: Period,
        /// Requests per second.
        #[arg(long)]
        rate: f64,
    },
    /// Fetch answers one after the other over one connection, and report each of them.
    Fetch {
        #[command(flatten)]
        asked: Asked,
        /// The number of answers.
        #[arg(long, default_value_t = 1)]
        runs: usize,
        /// Stop after the first byte of the body.
        #[arg(long)]
        first_byte_only: bool,
    },
    /// Open a number of connections, get one answer on each, and keep them open until SIGTERM.
    Hold {
        #[command(flatten)]
        asked: Asked,
        /// The number of connections.
        #[arg(long)]
        connections: usize,
    },
    /// Fetch answers one after the other, and read them slowly, until SIGTERM.
    Slow {
        #[command(flatten)]
        asked: Asked,
        /// The number of bytes to read per second.
        #[arg(long)]
        bytes_per_second: u64,
    },
}

/// The request.
#[derive(Args)]
struct Asked {
    /// The server's address.
    #[arg(long)]
    address: SocketAddr,
    /// Path and query.
    #[arg(long)]
    path: String,
    /// A file with bearer tokens, one per line; requests use them in turn.
    #[arg(long)]
    tokens: PathBuf,
    /// A JSON body; with it, the request is a POST.
    #[arg(long)]
    body: Option<String>,
}

/// The number of connections, and the duration.
#[derive(Args, Clone, Copy)]
struct Period {
    /// The number of connections.
    #[arg(long)]
    connections: usize,
    /// The time for which answers are counted, in seconds.
    #[arg(long)]
    seconds: f64,
    /// The time before that, for which answers are not counted, in seconds.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
}

fn main() -> Result<(), Failure> {
    let mode = Mode::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let told = LocalSet::new().block_on(&runtime, async move {
        match mode {
            Mode::Closed { asked, period } => closed(asked.requests()?, period).await,
            Mode::Open { asked, period, rate } => open(asked.requests()?, period, rate).await,
            Mode::Fetch { asked, runs, first_byte_only } => fetch(asked.requests()?, runs, first_byte_only).await,
            Mode::Hold { asked, connections } => hold(asked.requests()?, connections).await,
            Mode::Slow { asked, bytes_per_second } => slow(asked.requests()?, bytes_per_second).await,
        }
    })?;
    println!("{told}");
    Ok(())
}

/// The bytes of all requests, ready to be sent.
struct Requests {
    address: SocketAddr,
    texts: Vec<Vec<u8>>,
}

impl Asked {
    fn requests(&self) -> Result<Rc<Requests>, Failure> {
        let Self { address, path, body, .. } = self;
        let method = if body.is_some() { "POST" } else { "GET" };
        let tail = body.as_ref().map_or_else(
            || "\r\n".to_owned(),
            |body| format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
        );
        let tokens = fs::read_to_string(&self.tokens)?;
        let text =
            |token| format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n{tail}");
        let texts: Vec<Vec<u8>> = tokens.lines().map(|token| text(token).into_bytes()).collect();
        if texts.is_empty() {
            Err("there is no token".into())
        } else {
            Ok(Rc::new(Requests { address: *address, texts }))
        }
    }
}

impl Requests {
    fn text(&self, number: usize) -> &[u8] {
        &self.texts[number % self.texts.len()]
    }
}

/// A connection for one request after the other.
struct Connection {
    stream: BufReader<TcpStream>,
    line: Vec<u8>,
    bytes_per_second: Option<u64>,
    begun: Instant,
    n_read: u64,
}

#[derive(Default)]
struct Answer {
    status: u16,
    first_byte: Option<Instant>,
    bytes: u64,
    lines: u64,
    closes: bool,
}

/// How the end of a body is marked.
enum Framing {
    Length(u64),
    Chunks,
}

impl Connection {
    async fn open(address: SocketAddr, buffer: usize) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream = BufReader::with_capacity(buffer, stream);
        Ok(Self { stream, line: Vec::new(), bytes_per_second: None, begun: Instant::now(), n_read: 0 })
    }

    /// Sends a request and reads its answer, or only up to the first byte of its body.
    async fn ask(&mut self, request: &[u8], first_byte_only: bool) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        let (mut answer, framing) = self.read_head().await?;
        match framing {
            Framing::Length(length) => {
                self.read_body(length, first_byte_only, &mut answer).await?;
            }
            Framing::Chunks => loop {
                let length = u64::from_str_radix(self.read_line().await?, 16).map_err(malformed)?;
                self.read_body(length, first_byte_only, &mut answer).await?;
                if first_byte_only && answer.first_byte.is_some() {
                    break;
                }
                self.read_line().await?;
                if length == 0 {
                    break;
                }
            },
        }
        Ok(answer)
    }

    async fn read_head(&mut self) -> io::Result<(Answer, Framing)> {
        let mut answer = Answer::default();
        let mut framing = Framing::Length(0);
        let status = self.read_line().await?.split(' ').nth(1).map(str::parse);
        answer.status = status.ok_or_else(|| malformed("no status"))?.map_err(malformed)?;
        loop {
            let line = self.read_line().await?.to_ascii_lowercase();
            match line.split_once(": ") {
                None if line.is_empty() => break,
                Some(("content-length", length)) => framing = Framing::Length(length.parse().map_err(malformed)?),
                Some(("transfer-encoding", "chunked")) => framing = Framing::Chunks,
                Some(("connection", "close")) => answer.closes = true,
                _ => {}
            }
        }
        Ok((answer, framing))
    }

    async fn read_line(&mut self) -> io::Result<&str> {
        self.line.clear();
        self.stream.read_until(b'\n', &mut self.line).await?;
        let line = self.line.strip_suffix(b"\r\n").ok_or(ErrorKind::UnexpectedEof)?;
        std::str::from_utf8(line).map_err(malformed)
    }

    async fn read_body(&mut self, mut left: u64, first_byte_only: bool, answer: &mut Answer) -> io::Result<()> {
        while left > 0 {
            let held = self.stream.fill_buf().await?;
            if held.is_empty() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            answer.first_byte.get_or_insert_with(Instant::now);
            if first_byte_only {
                return Ok(());
            }
            let length = held.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            answer.lines += held[..length].iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
            self.stream.consume(length);
            left -= length as u64;
            answer.bytes += length as u64;
            self.n_read += length as u64;
            if let Some(bytes_per_second) = self.bytes_per_second {
                let due = Duration::from_secs_f64(self.n_read as f64 / bytes_per_second as f64);
                sleep_until((self.begun + due).into()).await;
            }
        }
        Ok(())
    }
}

fn malformed(error: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

/// The results of many requests.
#[derive(Default)]
struct Tally {
    /// The latencies of answers with status 200, in seconds.
    latencies: Vec<f64>,
    statuses: BTreeMap<u16, u64>,
    broken: u64,
}

impl Tally {
    fn count(&mut self, answer: &io::Result<Answer>, latency: Duration) {
        match answer {
            Ok(answer) => {
                *self.statuses.entry(answer.status).or_default() += 1;
                if answer.status == 200 {
                    self.latencies.push(latency.as_secs_f64());
                }
            }
            Err(_) => self.broken += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.broken += other.broken;
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
    }

    fn tell(mut self, seconds: f64) -> Value {
        self.latencies.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let place = (self.latencies.len() as f64 * part).ceil() as usize;
            self.latencies.get(place.saturating_sub(1)).map(|latency| latency * 1e3)
        };
        json!({
            "per_second": self.latencies.len() as f64 / seconds, "answers": self.latencies.len(),
            "p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "max_ms": at(1.0),
            "statuses": self.statuses, "broken": self.broken,
        })
    }
}

/// Keeps a connection, and opens a new one when it has ended.
struct Client {
    requests: Rc<Requests>,
    connection: Option<Connection>,
}

impl Client {
    fn new(requests: &Rc<Requests>) -> Self {
        Self { requests: Rc::clone(requests), connection: None }
    }

    async fn ask(&mut self, number: usize) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.requests.address, 16 << 10).await?,
        };
        let answer = connection.ask(self.requests.text(number), false).await?;
        self.connection = (!answer.closes).then_some(connection);
        Ok(answer)
    }
}

async fn closed(requests: Rc<Requests>, period: Period) -> Result<Value, Failure> {
    let from = Instant::now() + Duration::from_secs_f64(period.warm_up);
    let until = from + Duration::from_secs_f64(period.seconds);
    let mut clients = JoinSet::new();
    for number in 0..period.connections {
        let mut client = Client::new(&requests);
        clients.spawn_local(async move {
            let mut tally = Tally::default();
            for round in 0.. {
                let begun = Instant::now();
                let answer = client.ask(number + round * period.connections).await;
                let ended = Instant::now();
                if ended >= until {
                    break;
                }
                if ended >= from {
                    tally.count(&answer, ended - begun);
                }
                if answer.is_err() {
                    sleep(Duration::from_millis(10)).await;
                }
            }
            tally
        });
    }
    Ok(gather(clients).await?.tell(period.seconds))
}

async fn open(requests: Rc<Requests>, period: Period, rate: f64) -> Result<Value, Failure> {
    let (hand_out, due) = mpsc::unbounded_channel::<(usize, Instant)>();
    let due = Rc::new(Mutex::new(due));
    let begun = Instant::now();
    let from = begun + Duration::from_secs_f64(period.warm_up);
    let mut clients = JoinSet::new();
    for _ in 0..period.connections {
        let (mut client, due) = (Client::new(&requests), Rc::clone(&due));
        clients.spawn_local(async move {
            let mut tally = Tally::default();
            loop {
                let next = due.lock().await.recv().await;
                let Some((number, at)) = next else { return tally };
                let answer = client.ask(number).await;
                if at >= from {
                    tally.count(&answer, at.elapsed());
                }
            }
        });
    }
    let n_requests = ((period.warm_up + period.seconds) * rate) as usize;
    for number in 0..n_requests {
        let at = begun + Duration::from_secs_f64(number as f64 / rate);
        if at > Instant::now() + TIMER_SLACK {
            sleep_until((at - TIMER_SLACK).into()).await;
        }
        while Instant::now() < at {
            yield_now().await;
        }
        hand_out.send((number, at))?;
    }
    drop(hand_out);
    Ok(gather(clients).await?.tell(period.seconds))
}

async fn gather(mut clients: JoinSet<Tally>) -> Result<Tally, Failure> {
    let mut all = Tally::default();
    while let Some(tally) = clients.join_next().await {
        all.add(tally?);
    }
    Ok(all)
}

async fn fetch(requests: Rc<Requests>, runs: usize, first_byte_only: bool) -> Result<Value, Failure> {
    let mut told = Vec::new();
    let mut connection = Connection::open(requests.address, BUFFER).await?;
    for number in 0..runs {
        if number > 0 && first_byte_only {
            connection = Connection::open(requests.address, BUFFER).await?;
        }
        let begun = Instant::now();
        let answer = connection.ask(requests.text(number), first_byte_only).await?;
        let total = begun.elapsed();
        let first = answer.first_byte.map_or(total, |first| first - begun);
        told.push(json!({
            "status": answer.status, "first_seconds": first.as_secs_f64(), "total_seconds": total.as_secs_f64(),
            "bytes": answer.bytes, "lines": answer.lines,
        }));
    }
    Ok(Value::from(told))
}

async fn hold(requests: Rc<Requests>, n_connections: usize) -> Result<Value, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut connections = Vec::with_capacity(n_connections);
    for number in 0..n_connections {
        let mut connection = Connection::open(requests.address, 1 << 10).await?;
        let answer = connection.ask(requests.text(number), false).await?;
        if answer.status != 200 || answer.closes {
            return Err(format!("connection {number} was answered {}", answer.status).into());
        }
        connections.push(connection);
    }
    println!("{}", json!({"held": n_connections}));
    terminate.recv().await;
    // A connection closed by the server has an end of file to read.
    let mut byte = [0];
    let is_open = |connection: &Connection| {
        let read = connection.stream.get_ref().try_read(&mut byte);
        read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    };
    Ok(json!({"open": connections.iter().map(is_open).filter(|is_open| *is_open).count()}))
}

async fn slow(requests: Rc<Requests>, bytes_per_second: u64) -> Result<Value, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut connection = Connection::open(requests.address, SLOW_BUFFER).await?;
    connection.bytes_per_second = Some(bytes_per_second);
    let mut status = 0;
    let reading = async {
        for number in 0.. {
            status = connection.ask(requests.text(number), false).await?.status;
        }
        Ok::<_, io::Error>(())
    };
    let broken = tokio::select! {
        read = reading => read.err().map(|error| error.to_string()),
        _ = terminate.recv() => None,
    };
    Ok(json!({"bytes": connection.n_read, "status": status, "broken": broken}))
}
