//! A small io_uring of one thread: it owns the memory that the kernel reads and writes, and does
//! not give it back while the kernel may still touch it.

#![allow(unsafe_code)] // Submissions carry addresses.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::memory::Memory;

/// The one group of provided buffers.
const GROUP: u16 = 0;

/// What the kernel has done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    /// What the caller called it.
    pub tag: u64,
    /// What the system call would have returned, with a negative error number.
    pub result: i32,
    /// The provided buffer that it filled.
    pub buffer: Option<u16>,
    /// Whether the same operation will complete again.
    pub more: bool,
}

impl Done {
    /// The bytes that were moved, or the error.
    pub(super) fn bytes(&self) -> io::Result<usize> {
        usize::try_from(self.result).map_err(|_| io::Error::from_raw_os_error(-self.result))
    }
}

/// Buffers that the kernel picks from when something arrives.
struct Provided {
    /// Where in the memory their ring begins.
    ring_at: usize,
    /// Where the first of them begins.
    buffers_at: usize,
    entries: u16,
    buffer_bytes: usize,
    tail: u16,
}

/// A ring and its memory.
pub(super) struct Ring {
    ring: IoUring,
    /// Freed once nothing is in flight; leaked if that cannot be had.
    memory: ManuallyDrop<Memory>,
    in_flight: usize,
    provided: Option<Provided>,
}

impl Ring {
    /// A ring for the calling thread alone.
    pub(super) fn new(entries: u32, memory: Memory) -> io::Result<Ring> {
        // Completions are worked off when this thread asks for them, not in interrupts of it; the
        // flag tells when asking is worth a system call.
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_coop_taskrun()
            .setup_clamp()
            .build(entries)?;
        Ok(Ring {
            ring,
            memory: ManuallyDrop::new(memory),
            in_flight: 0,
            provided: None,
        })
    }

    /// Lets the kernel's workers for this thread run on another CPU, as a shard does.
    pub(super) fn move_workers(&self, cpu: usize) -> io::Result<()> {
        // SAFETY: `cpu_set_t` is an array of integers, for which all zeros is the empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        if cpu < libc::CPU_SETSIZE as usize {
            // SAFETY: `set` is valid, and the number was just checked to be within it.
            unsafe { libc::CPU_SET(cpu, &mut set) };
        }
        self.ring.submitter().register_iowq_aff(&set)
    }

    /// Gives `entries` buffers (a power of two) to the kernel for what [`receive`](Self::receive)
    /// takes in. Their ring, 16 bytes each, begins at `ring_at` of the memory, a multiple of a page.
    pub(super) fn provide(
        &mut self,
        ring_at: usize,
        entries: u16,
        buffers_at: usize,
        buffer_bytes: usize,
    ) -> io::Result<()> {
        let count = usize::from(entries);
        let ring = self.memory.at(ring_at, count * size_of::<BufRingEntry>());
        self.memory.at(buffers_at, count * buffer_bytes);
        // The ring begins empty: its tail lies in the first entry.
        // SAFETY: the range is within the memory, which this ring owns; nobody else uses it yet.
        unsafe { ring.write_bytes(0, count * size_of::<BufRingEntry>()) };
        // SAFETY: the memory stays until the ring is gone, see `drop`.
        unsafe {
            let submitter = self.ring.submitter();
            submitter.register_buf_ring_with_flags(ring as u64, entries, GROUP, 0)?;
        }
        self.provided = Some(Provided {
            ring_at,
            buffers_at,
            entries,
            buffer_bytes,
            tail: 0,
        });
        for buffer in 0..entries {
            self.give_back(buffer);
        }
        Ok(())
    }

    /// Gives a provided buffer back to the kernel.
    pub(super) fn give_back(&mut self, buffer: u16) {
        let provided = self.provided.as_mut().expect("buffers were provided");
        assert!(buffer < provided.entries, "there is no buffer {buffer}");
        let (number, len) = (usize::from(buffer), provided.buffer_bytes);
        let address = self.memory.at(provided.buffers_at + number * len, len);
        let ring: *mut BufRingEntry = self.memory.at(provided.ring_at, 0).cast();
        let slot = usize::from(provided.tail & (provided.entries - 1));
        // SAFETY: the ring has `entries` entries, a power of two, so that the mask keeps the slot
        // within it. The kernel reads an entry only after the tail has passed it.
        let entry = unsafe { &mut *ring.add(slot) };
        entry.set_addr(address as u64);
        entry.set_len(u32::try_from(len).expect("buffers are small"));
        entry.set_bid(buffer);
        provided.tail = provided.tail.wrapping_add(1);
        // SAFETY: `ring` is the first entry of the ring, in which the tail lies; it is aligned, as
        // the ring is to a page, and on this side only this thread touches it.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(ring).cast_mut()) };
        tail.store(provided.tail, Ordering::Release);
    }

    /// Sends a range of the memory, all of it.
    pub(super) fn send(
        &mut self,
        socket: &impl AsRawFd,
        start: usize,
        len: usize,
        tag: u64,
    ) -> io::Result<()> {
        let bytes = self.memory.at(start, len);
        let send = opcode::Send::new(fd(socket), bytes, size(len));
        let send = send.flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL).build();
        // SAFETY: the range is within the memory, which stays until the operation is done.
        unsafe { self.push(send.user_data(tag)) }
    }

    /// Receives into provided buffers, again and again.
    pub(super) fn receive(&mut self, socket: &impl AsRawFd, tag: u64) -> io::Result<()> {
        let receive = opcode::RecvMulti::new(fd(socket), GROUP).build();
        // SAFETY: it names no address; the buffers stay until the operation is done.
        unsafe { self.push(receive.user_data(tag)) }
    }

    /// Writes a range of the memory to a place of a file.
    pub(super) fn write(
        &mut self,
        file: &impl AsRawFd,
        start: usize,
        len: usize,
        position: u64,
        tag: u64,
    ) -> io::Result<()> {
        let bytes = self.memory.at(start, len);
        let write = opcode::Write::new(fd(file), bytes, size(len)).offset(position);
        // SAFETY: the range is within the memory, which stays until the operation is done.
        unsafe { self.push(write.build().user_data(tag)) }
    }

    /// Reads from a place of a file into a range of the memory.
    pub(super) fn read(
        &mut self,
        file: &impl AsRawFd,
        start: usize,
        len: usize,
        position: u64,
        tag: u64,
    ) -> io::Result<()> {
        let bytes = self.memory.at(start, len);
        let read = opcode::Read::new(fd(file), bytes, size(len)).offset(position);
        // SAFETY: the range is within the memory, which stays until the operation is done.
        unsafe { self.push(read.build().user_data(tag)) }
    }

    /// # Safety
    /// What the entry points at must lie in `self.memory`.
    unsafe fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        // SAFETY: the caller's promise; the memory outlives what is in flight.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.submit(0)?;
        }
        self.in_flight += 1;
        Ok(())
    }

    /// Hands over what was asked for, and waits until so many are done.
    pub(super) fn submit(&mut self, wait_for: usize) -> io::Result<()> {
        loop {
            match self.ring.submit_and_wait(wait_for) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Hands over what was asked for and collects what is done, without waiting; enters the kernel
    /// only if there is a reason to.
    pub(super) fn poll(&mut self, done: &mut Vec<Done>) -> io::Result<()> {
        let queue = self.ring.submission();
        let enter = !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
        drop(queue);
        if enter {
            self.submit(0)?;
        }
        self.collect(done);
        Ok(())
    }

    /// Adds what is done to the list.
    pub(super) fn collect(&mut self, done: &mut Vec<Done>) {
        for completion in self.ring.completion() {
            let more = cqueue::more(completion.flags());
            self.in_flight -= usize::from(!more);
            done.push(Done {
                tag: completion.user_data(),
                result: completion.result(),
                buffer: cqueue::buffer_select(completion.flags()),
                more,
            });
        }
    }

    /// How many operations are asked for and not done.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Waits until nothing is in flight any more. What is received until then keeps its buffer.
    fn drain(&mut self) -> io::Result<()> {
        let mut done = Vec::new();
        while self.in_flight > 0 {
            self.submit(1)?;
            self.collect(&mut done);
            done.clear();
        }
        Ok(())
    }
}

impl Drop for Ring {
    /// Waits for what is in flight: whoever has receives in flight shuts their sockets first.
    fn drop(&mut self) {
        if self.drain().is_ok() {
            // The registration of provided buffers goes with the ring, later than the memory; by
            // then nothing is left that would pick one.
            // SAFETY: not used again, and nothing in flight uses it.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}

fn fd(file: &impl AsRawFd) -> Fd {
    let number: RawFd = file.as_raw_fd();
    Fd(number)
}

fn size(len: usize) -> u32 {
    u32::try_from(len).expect("pieces are far smaller than 4 GiB")
}
