//! The board: a pipe that names the running process groups, written by the consumer and read by its guardian only when the
//! consumer is gone. A pipe because its contents and its end of file survive the writer; unread because waking the
//! guardian for every message would cost as much as a tenth of a message.

use std::fmt::Write;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_getpipe_size, pipe_with};

/// Both ends of the pipe, and what stands in it.
///
/// The consumer holds the reading end too: it takes out what is outdated before the pipe is full, and a guardian that
/// takes the place of a dead one finds all that is written.
#[derive(Debug)]
pub(super) struct Board {
    reader: OwnedFd,
    writer: OwnedFd,
    running: Vec<i32>,
    used: usize,
    capacity: usize,
}

/// What a board says once its writer is gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The consumer ended in good order.
    Closed,
    /// It did not; these groups were running.
    Abandoned(Vec<i32>),
}

impl Board {
    pub(super) fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let capacity = fcntl_getpipe_size(&writer)?;
        Ok(Self {
            reader,
            writer,
            running: Vec::new(),
            used: 0,
            capacity,
        })
    }

    /// Another reading end, for the guardian's standard input.
    pub(super) fn reader(&self) -> io::Result<OwnedFd> {
        self.reader.try_clone()
    }

    pub(super) fn add(&mut self, group: i32) {
        self.running.push(group);
        self.write(format!("+{group}\n").as_bytes());
    }

    pub(super) fn remove(&mut self, group: i32) {
        if let Some(position) = self.running.iter().position(|known| *known == group) {
            self.running.swap_remove(position);
        }
        self.write(format!("-{group}\n").as_bytes());
    }

    /// All is well: nothing is to be ended.
    pub(super) fn close(mut self) {
        if self.running.is_empty() {
            self.write(b".\n");
        }
    }

    fn write(&mut self, line: &[u8]) {
        if self.used + line.len() > self.capacity / 2 {
            self.tidy();
            return;
        }
        self.put(line);
    }

    fn put(&mut self, text: &[u8]) -> bool {
        match rustix::io::write(&self.writer, text) {
            Ok(count) => {
                self.used += count;
                count == text.len()
            }
            // The marks that children carry find them all the same.
            Err(_) => false,
        }
    }

    /// Writes the whole list anew and only then takes out what stood before it: whenever the consumer dies, the list is
    /// there.
    fn tidy(&mut self) {
        let outdated = self.used;
        let mut list = String::from("=\n");
        for group in &self.running {
            writeln!(list, "+{group}").expect("writing to a String cannot fail");
        }
        self.put(list.as_bytes());
        let mut left = outdated;
        let mut buffer = [0; 4096];
        while left > 0 {
            let part = left.min(buffer.len());
            match rustix::io::read(&self.reader, &mut buffer[..part]) {
                Ok(count) if count > 0 => left -= count,
                Err(Errno::INTR) => {}
                _ => break,
            }
        }
        self.used -= outdated - left;
    }
}

/// Reads a board. What stands at its beginning may be half taken out, and its last line half written.
pub(super) fn read(text: &str) -> Verdict {
    let mut running = Vec::new();
    let mut closed = false;
    for line in text.split_inclusive('\n') {
        let Some(line) = line.strip_suffix('\n') else { continue };
        match line.split_at_checked(1) {
            Some(("+", group)) => running.extend(group.parse::<i32>().ok().filter(|group| *group > 1)),
            Some(("-", group)) => running.retain(|known| group.parse() != Ok(*known)),
            Some(("=", "")) => running.clear(),
            Some((".", "")) => closed = true,
            _ => {}
        }
    }
    if closed && running.is_empty() {
        Verdict::Closed
    } else {
        Verdict::Abandoned(running)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::{Board, Verdict, read};

    fn contents(board: Board, close: bool) -> String {
        let reader = board.reader().unwrap();
        if close {
            board.close();
        } else {
            drop(board);
        }
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn the_board_says_what_runs() {
        assert_eq!(read("+10\n+11\n-10\n"), Verdict::Abandoned(vec![11]));
        assert_eq!(read(""), Verdict::Abandoned(vec![]));
        assert_eq!(read("+10\n-10\n.\n"), Verdict::Closed);
        assert_eq!(read("+10\n.\n"), Verdict::Abandoned(vec![10]));
    }

    #[test]
    fn half_lines_are_no_groups() {
        assert_eq!(read("45\n+10\n=\n+7\n+12"), Verdict::Abandoned(vec![7]));
        assert_eq!(read("+1\n+0\n+-5\n+x\n+\n"), Verdict::Abandoned(vec![]));
    }

    #[test]
    fn a_full_board_is_tidied() {
        let mut board = Board::new().unwrap();
        board.add(424_242);
        for group in 2..50_000 {
            board.add(group);
            board.remove(group);
            assert!(board.used <= board.capacity);
        }
        board.add(7_777);
        assert_eq!(read(&contents(board, false)), Verdict::Abandoned(vec![424_242, 7_777]));
    }

    #[test]
    fn an_idle_board_is_closed_in_good_order() {
        let mut board = Board::new().unwrap();
        board.add(5);
        board.remove(5);
        assert_eq!(read(&contents(board, true)), Verdict::Closed);
        let mut board = Board::new().unwrap();
        board.add(5);
        assert_eq!(read(&contents(board, true)), Verdict::Abandoned(vec![5]));
    }
}
