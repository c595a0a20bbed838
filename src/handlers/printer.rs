//! Standard output for handlers: whoever starts the consumer lends it, and one thread writes to it.

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::sync::oneshot;

/// So many bytes are written at once where more pieces than one wait.
const AT_ONCE: usize = 64 * 1024;

type Write = dyn Fn(&[u8]) -> io::Result<usize> + Send + Sync;

/// Where a handler's prints go.
#[derive(Clone)]
pub struct Printer(Arc<Write>);

impl Printer {
    /// Prints with this function, which writes some of the bytes and says how many, as [`io::Write::write`] does. It may
    /// wait for as long as it takes.
    pub fn new(write: impl Fn(&[u8]) -> io::Result<usize> + Send + Sync + 'static) -> Self {
        Self(Arc::new(write))
    }
}

impl Default for Printer {
    /// Prints nowhere.
    fn default() -> Self {
        Self::new(|bytes| Ok(bytes.len()))
    }
}

impl fmt::Debug for Printer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Printer")
    }
}

/// Why a piece was not printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nobody reads any more.
    ReaderLeft,
    /// The disk is full.
    NoRoom(String),
    /// Anything else.
    Broken(String),
}

impl From<&io::Error> for Trouble {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::ReaderLeft,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::NoRoom(error.to_string()),
            _ => Self::Broken(error.to_string()),
        }
    }
}

struct Piece {
    bytes: Vec<u8>,
    answer: oneshot::Sender<Result<(), Trouble>>,
}

/// Writes pieces one after the other on a thread of its own: a reader that does not read must keep nobody from stopping the
/// consumer.
#[derive(Debug)]
pub(super) struct Press(Sender<Piece>);

impl Press {
    /// Starts the thread, which ends with the press.
    pub(super) fn start(printer: Printer) -> io::Result<Self> {
        let (sender, pieces) = channel();
        std::thread::Builder::new()
            .name("print".to_owned())
            .spawn(move || run(&printer, &pieces))?;
        Ok(Self(sender))
    }

    /// Prints all of these bytes, behind all that was given before: the call gives them, its future waits. What is no longer
    /// waited for when its turn comes is left out.
    pub(super) fn print(&self, bytes: Vec<u8>) -> impl Future<Output = Result<(), Trouble>> + use<> {
        let (answer, answered) = oneshot::channel();
        // What cannot be sent drops its answer.
        let _ = self.0.send(Piece { bytes, answer });
        async move {
            let ended = || Trouble::Broken("the thread that prints has ended".to_owned());
            answered.await.unwrap_or_else(|_| Err(ended()))
        }
    }
}

fn run(printer: &Printer, pieces: &Receiver<Piece>) {
    let mut pass = Pass::default();
    while let Ok(first) = pieces.recv() {
        pass.begin();
        pass.add(first);
        while pass.bytes.len() < AT_ONCE
            && let Ok(piece) = pieces.try_recv()
        {
            pass.add(piece);
        }
        pass.write(printer);
    }
}

/// Pieces that are written together.
#[derive(Default)]
struct Pass {
    bytes: Vec<u8>,
    /// Where each piece ends.
    pieces: Vec<(usize, oneshot::Sender<Result<(), Trouble>>)>,
    /// What was written last ends within a piece.
    torn: bool,
    /// Where the first piece begins.
    start: usize,
}

impl Pass {
    /// After a piece that was cut off by a full disk the next one begins on a line of its own.
    fn begin(&mut self) {
        self.bytes.clear();
        if self.torn {
            self.bytes.push(b'\n');
        }
        self.start = self.bytes.len();
    }

    fn add(&mut self, piece: Piece) {
        if !piece.answer.is_closed() {
            self.bytes.extend_from_slice(&piece.bytes);
            self.pieces.push((self.bytes.len(), piece.answer));
        }
    }

    /// Pieces that were written whole are printed, whatever became of those behind them.
    fn write(&mut self, printer: &Printer) {
        if self.pieces.is_empty() {
            return;
        }
        let mut written = 0;
        let mut trouble = None;
        while written < self.bytes.len() && trouble.is_none() {
            match (printer.0)(&self.bytes[written..]) {
                Ok(0) => trouble = Some(Trouble::Broken("it takes nothing".to_owned())),
                Ok(more) => written += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => trouble = Some(Trouble::from(&error)),
            }
        }
        if written > 0 {
            self.torn = written != self.start && !self.pieces.iter().any(|(end, _)| *end == written);
        }
        for (end, answer) in self.pieces.drain(..) {
            let result = match &trouble {
                Some(trouble) if end > written => Err(trouble.clone()),
                _ => Ok(()),
            };
            // Nobody may wait for it any more.
            let _ = answer.send(result);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::{Press, Printer, Trouble};

    /// What is on it, and how many bytes more it takes.
    type Disk = Arc<Mutex<(Vec<u8>, usize)>>;

    /// Takes so many bytes in all, then says that it is full.
    fn disk(room: usize) -> (Disk, Printer) {
        let disk = Disk::new(Mutex::new((Vec::new(), room)));
        let on = Arc::clone(&disk);
        let printer = Printer::new(move |bytes| {
            let mut disk = on.lock().unwrap();
            let (content, room) = &mut *disk;
            let taken = bytes.len().min(*room);
            if taken == 0 {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            content.extend_from_slice(&bytes[..taken]);
            *room -= taken;
            Ok(taken)
        });
        (disk, printer)
    }

    #[tokio::test]
    async fn what_a_full_disk_has_cut_off_is_printed_again_on_a_line_of_its_own() {
        let (disk, printer) = disk(6);
        let press = Press::start(printer).unwrap();
        assert_eq!(press.print(b"one\n".to_vec()).await, Ok(()));
        let full = press.print(b"two\n".to_vec()).await;
        assert!(matches!(full, Err(Trouble::NoRoom(_))), "{full:?}");
        assert!(matches!(press.print(b"two\n".to_vec()).await, Err(Trouble::NoRoom(_))));
        disk.lock().unwrap().1 = 100;
        assert_eq!(press.print(b"two\n".to_vec()).await, Ok(()));
        assert_eq!(press.print(b"three\n".to_vec()).await, Ok(()));
        assert_eq!(disk.lock().unwrap().0, b"one\ntw\ntwo\nthree\n");
    }

    #[tokio::test]
    async fn what_is_printed_together_is_answered_one_by_one() {
        let (disk, printer) = disk(8);
        let press = Press::start(printer).unwrap();
        let results = futures_util::future::join_all((0..4).map(|_| press.print(b"four".to_vec()))).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 2, "{results:?}");
        assert!(results[0].is_ok() && results[1].is_ok(), "{results:?}");
        assert_eq!(disk.lock().unwrap().0, b"fourfour");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_left_out() {
        let (begun, has_begun) = std::sync::mpsc::channel();
        let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
        let (printed, may_go_on) = (Arc::new(Mutex::new(Vec::new())), Mutex::new(may_go_on));
        let into = Arc::clone(&printed);
        let press = Press::start(Printer::new(move |bytes| {
            begun.send(()).unwrap();
            may_go_on.lock().unwrap().recv().unwrap();
            into.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }))
        .unwrap();
        let first = press.print(b"1".to_vec());
        has_begun.recv().unwrap();
        // While the first is being printed, two more are given and one of them is given up.
        drop(press.print(b"2".to_vec()));
        let third = press.print(b"3".to_vec());
        go_on.send(()).unwrap();
        go_on.send(()).unwrap();
        assert_eq!(first.await, Ok(()));
        assert_eq!(third.await, Ok(()));
        assert_eq!(*printed.lock().unwrap(), b"13");
    }
}
