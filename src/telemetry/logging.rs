//! Writes structured log lines to stderr, as text or JSON.
//!
//! Logging never waits for stderr, and never fails because of it: one thread writes from a bounded queue. Lines that
//! cannot be written are counted, and the count is logged as soon as possible.

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, util::SubscriberInitExt};

use crate::config::{LogFormat, LogSettings};

/// The most lines in the queue.
const QUEUE: usize = 8192;
/// The most bytes of lines in the queue.
const QUEUE_BYTES: usize = 16 << 20;
/// The longest wait for the last lines when the process ends.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The number of lines lost since the process began.
static LOST: LazyLock<Arc<AtomicU64>> = LazyLock::new(Arc::default);

/// Returns the number of lines lost since the process began.
pub(super) fn lines_lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level cannot be parsed.
    #[error("log.level `{level}` cannot be used: {source}; write `info`, or `info,weir::lake=debug`")]
    Level {
        /// The level as written.
        level: String,
        /// The cause.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logging is already set up in this process.
    #[error("logging is already set up: {0}")]
    Taken(#[from] tracing_subscriber::util::TryInitError),
    /// The writer thread cannot be started.
    #[error("the thread that writes log lines cannot be started: {0}")]
    Thread(#[from] io::Error),
}

/// Sends the process's log lines, including panics, to stderr according to `settings`. Call this once, before anything
/// is logged, and keep the result until the process ends.
pub fn init(settings: &LogSettings) -> Result<Lines, TelemetryError> {
    let is_terminal = io::stderr().is_terminal();
    let lines = Lines::written_to(io::stderr(), Arc::clone(&LOST))?;
    subscriber(settings, lines.queue.clone(), is_terminal)?.try_init()?;
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a panic, which is a bug; please report it")));
    Ok(lines)
}

fn subscriber<W>(
    settings: &LogSettings,
    writer: W,
    colours: bool,
) -> Result<Box<dyn Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(directives(&settings.level))
        .map_err(|source| TelemetryError::Level { level: settings.level.clone(), source })?;
    // The library would print its own errors about a line, and panic if it cannot print them.
    let builder = tracing_subscriber::fmt().log_internal_errors(false);
    let builder = builder.with_env_filter(filter).with_writer(writer).with_ansi(colours);
    Ok(match settings.format {
        LogFormat::Text => Box::new(builder.finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).with_span_list(false).finish()),
    })
}

/// The handle of the writer thread. When it is dropped at the end of the process, it waits briefly for the last lines.
#[derive(Debug)]
pub struct Lines {
    queue: Queue,
}

/// The queue of lines. Adding a line never blocks.
#[derive(Clone, Debug)]
struct Queue {
    lines: SyncSender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
}

impl Lines {
    fn written_to(output: impl Write + Send + 'static, lost: Arc<AtomicU64>) -> io::Result<Self> {
        let (lines, queued) = sync_channel(QUEUE);
        let queue = Queue { lines, waiting: Arc::default(), lost };
        let (waiting, lost) = (Arc::clone(&queue.waiting), Arc::clone(&queue.lost));
        thread::Builder::new().name("log".into()).spawn(move || write_all(output, &queued, &waiting, &lost))?;
        Ok(Self { queue })
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let until = Instant::now() + LAST_LINES;
        while self.queue.waiting.load(Ordering::Acquire) > 0 && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Writes lines as they arrive, until no sender is left.
fn write_all(mut output: impl Write, queued: &Receiver<Vec<u8>>, waiting: &AtomicUsize, lost: &AtomicU64) {
    let (mut told, mut is_cut) = (0, false);
    loop {
        match queued.recv_timeout(Duration::from_secs(1)) {
            Ok(line) => {
                let begin: &[u8] = if is_cut { b"\n" } else { b"" };
                let written = output.write_all(begin).and_then(|()| output.write_all(&line));
                is_cut = written.and_then(|()| output.flush()).is_err();
                lost.fetch_add(u64::from(is_cut), Ordering::Relaxed);
                waiting.fetch_sub(line.len(), Ordering::Release);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let lines = lost.load(Ordering::Relaxed);
        // Reports the total, because this line may be lost too.
        if lines > told && !is_cut && waiting.load(Ordering::Relaxed) < QUEUE_BYTES / 2 {
            tracing::warn!(lines, "log lines were lost since the start, because they could not be written in time");
            told = lines;
        }
    }
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let before = self.waiting.fetch_add(line.len(), Ordering::AcqRel);
        if before + line.len() > QUEUE_BYTES || self.lines.try_send(line.to_owned()).is_err() {
            self.waiting.fetch_sub(line.len(), Ordering::AcqRel);
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Applies a bare level to this server only. Libraries stay at `warn` unless named, because HTTP and storage clients
/// log signed URLs at finer levels.
fn directives(level: &str) -> String {
    let directives = level.split(',').map(str::trim).map(|directive| match directive {
        "info" | "debug" | "trace" => format!("warn,weir={directive}"),
        other => other.to_owned(),
    });
    directives.collect::<Vec<_>>().join(",")
}

/// Formats an error with its sources, outermost first.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: &str, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let settings = LogSettings { format, level: level.to_owned() };
        tracing::subscriber::with_default(subscriber(&settings, move || writer.clone(), false).unwrap(), log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_are_objects_with_the_fields_and_the_span() {
        let line = logged(LogFormat::Json, "info", || {
            let _span = tracing::info_span!("request", id = "r-1").entered();
            tracing::info!(route = "/shares", "served");
        });
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["message"], "served");
        assert_eq!(line["route"], "/shares");
        assert_eq!(line["span"]["id"], "r-1");
    }

    #[test]
    fn finer_levels_do_not_reach_into_libraries() {
        let lines = logged(LogFormat::Text, "debug", || {
            tracing::debug!("ours");
            tracing::debug!(target: "reqwest::connect", "https://bucket/file?X-Amz-Signature=abc");
            tracing::warn!(target: "reqwest", "theirs");
        });
        assert!(lines.contains("ours") && lines.contains("theirs") && !lines.contains("Signature"), "{lines}");
    }

    /// An output that fails until it is repaired, and then accepts everything.
    #[derive(Clone, Default)]
    struct Failing {
        is_mended: Arc<std::sync::atomic::AtomicBool>,
        lines: Lines,
    }

    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.is_mended.load(Ordering::SeqCst) { self.lines.write(bytes) } else { Err(io::Error::other("full")) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A receiver that accepts nothing until it is released.
    struct Stuck(std::sync::mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn settle(writer: &super::Lines) {
        while writer.queue.waiting.load(Ordering::Acquire) > 0 {
            thread::yield_now();
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_hurt_nobody() {
        let output = Failing::default();
        let writer = super::Lines::written_to(output.clone(), Arc::default()).unwrap();
        let settings = LogSettings { format: LogFormat::Text, level: "info".to_owned() };
        let logging = subscriber(&settings, writer.queue.clone(), false).unwrap();
        tracing::subscriber::with_default(logging, || {
            tracing::info!("one");
            tracing::info!("two");
        });
        settle(&writer);
        assert_eq!(writer.queue.lost.load(Ordering::Relaxed), 2);
        output.is_mended.store(true, Ordering::SeqCst);
        writer.queue.clone().write_all(b"three\n").unwrap();
        settle(&writer);
        assert_eq!(String::from_utf8_lossy(&output.lines.0.lock().unwrap()).trim(), "three");
        assert_eq!(writer.queue.lost.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn nobody_who_logs_waits_for_a_reader_that_takes_nothing() {
        let (go, gone) = std::sync::mpsc::channel();
        let writer = super::Lines::written_to(Stuck(gone), Arc::default()).unwrap();
        let mut queue = writer.queue.clone();
        for _ in 0..QUEUE * 2 {
            queue.write_all(&[b'x'; 80]).unwrap();
        }
        let lost = writer.queue.lost.load(Ordering::Relaxed);
        assert!((QUEUE as u64 - 1..=QUEUE as u64).contains(&lost), "{lost}");
        drop(go);
        settle(&writer);
    }

    #[test]
    fn library_is_heard_when_named() {
        let lines = logged(LogFormat::Text, "info,sqlx=debug", || tracing::debug!(target: "sqlx", "SELECT 1"));
        assert!(lines.contains("SELECT 1"), "{lines}");
    }
}
