//! Reading journal files at recovery: in large pieces, with turns for others in between, and with
//! blocks that the disk cannot give taken for blocks that fail their checksum.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use super::format::FIRST_GROUP_POSITION;
use super::scan::{GroupSeen, Scanner};
use super::{JournalError, format::FileHeader};
use crate::env::{BLOCK_BYTES, Env, File, OpenOptions, is_medium_error};

/// How much is read at once.
const PIECE_BYTES: usize = 1 << 20;

/// What stands for a block that cannot be read: not zero, which would be a file never used.
const UNREADABLE: u8 = 0xa5;

/// A file of the journal, open for reading.
pub(super) struct Reader<E: Env> {
    env: E,
    file: E::File,
    pub path: PathBuf,
    pub len: u64,
    /// The piece read last, and where it begins.
    piece: Option<(u64, Piece<E>)>,
}

enum Piece<E: Env> {
    Whole(<E::File as File>::ReadBuffer),
    Patched(Vec<u8>),
}

impl<E: Env> Deref for Piece<E> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Piece::Whole(buffer) => buffer,
            Piece::Patched(bytes) => bytes,
        }
    }
}

impl<E: Env> Reader<E> {
    /// Opens a file and makes what it holds durable: what recovery reads must not be lost again.
    pub async fn open(env: &E, path: &Path) -> Result<Reader<E>, JournalError> {
        let file = env
            .open(path, OpenOptions::default())
            .await
            .map_err(JournalError::io("open", path))?;
        let len = file
            .len()
            .await
            .map_err(JournalError::io("measure", path))?;
        file.sync().await.map_err(JournalError::io("sync", path))?;
        let len = len - len % BLOCK_BYTES as u64;
        Ok(Reader {
            env: env.clone(),
            file,
            path: path.to_path_buf(),
            len,
            piece: None,
        })
    }

    pub async fn close(self) -> Result<(), JournalError> {
        self.file
            .close()
            .await
            .map_err(JournalError::io("close", &self.path))
    }

    /// The bytes at `position`, at least one block unless the file ends before, at most to the end
    /// of the piece that is in memory.
    pub async fn at(&mut self, position: u64) -> Result<&[u8], JournalError> {
        let start = position - position % BLOCK_BYTES as u64;
        let known = self
            .piece
            .as_ref()
            .is_some_and(|(from, piece)| (*from..*from + piece.len() as u64).contains(&start));
        if !known {
            self.piece = None;
            let len = (self.len.saturating_sub(start)).min(PIECE_BYTES as u64) as usize;
            let piece = self.read(start, len).await?;
            self.piece = Some((start, piece));
            self.env.yield_now().await;
        }
        let (from, piece) = self.piece.as_ref().expect("it was read just now");
        Ok(piece.get((position - from) as usize..).unwrap_or_default())
    }

    /// Copies `len` bytes from `position` on; fewer at the end of the file.
    pub async fn copy(&mut self, mut position: u64, len: u64) -> Result<Vec<u8>, JournalError> {
        let end = position.saturating_add(len).min(self.len);
        let mut out = Vec::with_capacity(end.saturating_sub(position) as usize);
        while position < end {
            let bytes = self.at(position).await?;
            let part = bytes.len().min((end - position) as usize);
            if part == 0 {
                break;
            }
            out.extend_from_slice(&bytes[..part]);
            position += part as u64;
        }
        Ok(out)
    }

    /// Finds the groups of the file, which has this header.
    pub async fn scan(&mut self, header: FileHeader) -> Result<Vec<GroupSeen>, JournalError> {
        let mut scanner = Scanner::new(header, self.len);
        let mut position = FIRST_GROUP_POSITION;
        while position < self.len {
            let bytes = self.at(position).await?;
            if bytes.is_empty() {
                break;
            }
            scanner.feed(bytes);
            position += bytes.len() as u64;
        }
        Ok(scanner.finish())
    }

    async fn read(&self, start: u64, len: usize) -> Result<Piece<E>, JournalError> {
        if len == 0 {
            return Ok(Piece::Patched(Vec::new()));
        }
        match self.file.read_at(start, len).await {
            Ok(buffer) => Ok(Piece::Whole(buffer)),
            Err(error) if is_medium_error(&error) => {
                tracing::warn!(file = %self.path.display(), start, len, %error, "journal: unreadable, trying block by block");
                self.read_blocks(start, len).await
            }
            Err(error) => Err(JournalError::io("read", &self.path)(error)),
        }
    }

    async fn read_blocks(&self, start: u64, len: usize) -> Result<Piece<E>, JournalError> {
        let mut bytes = vec![UNREADABLE; len];
        for at in (0..len).step_by(BLOCK_BYTES) {
            match self.file.read_at(start + at as u64, BLOCK_BYTES).await {
                Ok(block) => bytes[at..at + block.len()].copy_from_slice(&block),
                Err(error) if is_medium_error(&error) => {
                    tracing::warn!(file = %self.path.display(), position = start + at as u64, %error, "journal: unreadable block");
                }
                Err(error) => return Err(JournalError::io("read", &self.path)(error)),
            }
        }
        Ok(Piece::Patched(bytes))
    }
}
