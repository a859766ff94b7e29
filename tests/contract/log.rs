//! The log pipe's reading end: everything the worker printed, in order.

use std::fs::File;
use std::io::{ErrorKind, Read};

pub(crate) struct Log {
    pipe: File,
    bytes: Vec<u8>,
    /// Where the part that is looked at begins.
    mark: usize,
}

impl Log {
    /// `pipe` must not block.
    pub(crate) fn new(pipe: File) -> Self {
        Self {
            pipe,
            bytes: Vec::new(),
            mark: 0,
        }
    }

    /// Takes over what is in the pipe now.
    pub(crate) fn drain(&mut self) {
        let mut buffer = [0; 64 * 1024];
        loop {
            match self.pipe.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // WouldBlock: it is empty.
                Err(_) => return,
            }
        }
    }

    /// From here on, earlier lines are not looked at.
    pub(crate) fn mark(&mut self) {
        self.mark = self.bytes.len();
    }

    /// The lines since the mark; the last may not be ended yet.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.bytes[self.mark..]);
        text.lines().map(str::to_owned).collect()
    }

    /// Whether these texts stand in what was printed since the mark, one after the other.
    pub(crate) fn has(&self, texts: &[String]) -> bool {
        let printed = String::from_utf8_lossy(&self.bytes[self.mark..]);
        let mut rest: &str = &printed;
        texts
            .iter()
            .all(|text| match rest.split_once(text.as_str()) {
                Some((_, after)) => {
                    rest = after;
                    true
                }
                None => false,
            })
    }
}
