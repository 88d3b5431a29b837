//! An allocator for plugins whose instances live for one call.
//!
//! Each call has an instance of its own, whose memory is gone when it returns: whatever the guest would free, the host
//! takes back a moment later, all at once. So memory is handed out from front to back and hardly ever taken back, which
//! takes a few instructions where a general allocator takes a hundred; and it begins right behind the plugin's data,
//! where a general allocator leaves the rest of that page of 64 KiB and begins with another, which the host then has
//! to write anew for each call as well.
//!
//! Only the block that was handed out last is taken back, or grown where it lies: that keeps what `configure` parses from
//! piling up, and texts that are put together piece by piece from being copied. A plugin whose instances are used again
//! (`instance: warm`) grows with each call until the host drops it, so this is not for such.
//!
//! ```ignore
//! #[cfg(target_family = "wasm")]
//! #[global_allocator]
//! static ARENA: call_arena::CallArena = call_arena::CallArena::new(call_arena::Linear);
//! ```

#![no_std]
#![allow(unsafe_code, reason = "an allocator is made of it; the guest that it may spoil is sandboxed")]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use core::ptr::null_mut;

/// Where an arena gets its memory from.
pub trait Memory {
    /// The first address that is free to use.
    fn start(&self) -> usize;
    /// The first address behind what can be used.
    fn end(&self) -> usize;
    /// Makes what can be used end at `end` or later. False: it can't be had.
    fn grow(&self, end: usize) -> bool;
}

/// The linear memory of the instance, behind its stack and data.
#[cfg(target_family = "wasm")]
#[derive(Debug, Clone, Copy)]
pub struct Linear;

#[cfg(target_family = "wasm")]
impl Memory for Linear {
    fn start(&self) -> usize {
        unsafe extern "C" {
            /// Defined by the linker: its address counts.
            static __heap_base: u8;
        }
        &raw const __heap_base as usize
    }

    fn end(&self) -> usize {
        core::arch::wasm32::memory_size(0) * PAGE
    }

    fn grow(&self, end: usize) -> bool {
        let pages = core::arch::wasm32::memory_size(0);
        let needed = end.div_ceil(PAGE).saturating_sub(pages);
        // To grow is slow, so there is half as much more each time; but what is needed may just fit within the budget.
        core::arch::wasm32::memory_grow(0, needed.max(pages / 2)) != usize::MAX
            || core::arch::wasm32::memory_grow(0, needed) != usize::MAX
    }
}

#[cfg(target_family = "wasm")]
const PAGE: usize = 64 << 10;

/// The allocator. For a single thread: guests have no others.
#[derive(Debug)]
pub struct CallArena<M> {
    memory: M,
    /// Where the next block may begin; 0: at the start of the memory.
    next: Cell<usize>,
    /// As far as it is known that there is memory.
    end: Cell<usize>,
}

// SAFETY: a guest has one thread, and so does each of the tests below.
unsafe impl<M> Sync for CallArena<M> {}

impl<M: Memory> CallArena<M> {
    /// One that has handed out nothing yet.
    pub const fn new(memory: M) -> Self {
        Self { memory, next: Cell::new(0), end: Cell::new(0) }
    }

    /// Has the memory from `start` on taken, `size` bytes of it.
    fn take(&self, start: usize, size: usize) -> *mut u8 {
        let Some(stop) = start.checked_add(size).filter(|stop| isize::try_from(*stop).is_ok()) else {
            return null_mut();
        };
        if stop > self.end.get() {
            if stop > self.memory.end() && !self.memory.grow(stop) {
                return null_mut();
            }
            self.end.set(self.memory.end());
        }
        self.next.set(stop);
        start as *mut u8
    }
}

// SAFETY: blocks lie within the memory, one behind the other; only the last one is ever taken back.
unsafe impl<M: Memory> GlobalAlloc for CallArena<M> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let next = if self.next.get() == 0 { self.memory.start() } else { self.next.get() };
        match next.checked_add(layout.align() - 1) {
            Some(start) => self.take(start & !(layout.align() - 1), layout.size()),
            None => null_mut(),
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if block as usize + layout.size() == self.next.get() {
            self.next.set(block as usize);
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if block as usize + layout.size() == self.next.get() {
            return self.take(block as usize, size);
        }
        if size <= layout.size() {
            return block;
        }
        // SAFETY: the caller keeps to the rules of `realloc`, by which this layout is one.
        let moved = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !moved.is_null() {
            // SAFETY: both are of that size at least, and the new one is behind the old one.
            unsafe { core::ptr::copy_nonoverlapping(block, moved, layout.size()) };
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr::slice_from_raw_parts;

    /// A buffer of which the first half is there from the beginning.
    struct Buffer {
        start: usize,
        half: usize,
        has_grown: Cell<bool>,
    }

    impl Memory for Buffer {
        fn start(&self) -> usize {
            self.start
        }

        fn end(&self) -> usize {
            self.start + if self.has_grown.get() { 2 * self.half } else { self.half }
        }

        fn grow(&self, end: usize) -> bool {
            let fits = end <= self.start + 2 * self.half;
            self.has_grown.set(self.has_grown.get() || fits);
            fits
        }
    }

    fn arena(buffer: &mut [u64; 32]) -> CallArena<Buffer> {
        CallArena::new(Buffer { start: buffer.as_mut_ptr() as usize, half: 128, has_grown: Cell::new(false) })
    }

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).expect("a power of two")
    }

    #[test]
    fn blocks_follow_each_other_and_are_aligned() {
        let mut buffer = [0; 32];
        let arena = arena(&mut buffer);
        // SAFETY: sizes other than 0, as it is throughout these tests.
        let [one, eight, two] =
            [(1, 1), (8, 8), (2, 2)].map(|(size, align)| unsafe { arena.alloc(layout(size, align)) });
        assert_eq!(eight as usize, one as usize + 8);
        assert_eq!(two as usize, one as usize + 16);
    }

    #[test]
    fn memory_grows_when_it_is_needed_and_what_is_not_there_is_refused() {
        let mut buffer = [0; 32];
        let arena = arena(&mut buffer);
        // SAFETY: see above.
        unsafe {
            assert!(!arena.alloc(layout(128, 8)).is_null());
            assert!(!arena.memory.has_grown.get());
            assert!(!arena.alloc(layout(128, 8)).is_null());
            assert!(arena.memory.has_grown.get());
            assert!(arena.alloc(layout(1, 1)).is_null());
            assert!(arena.alloc(layout(isize::MAX as usize - 8, 1)).is_null());
        }
    }

    #[test]
    fn the_last_block_is_taken_back_and_grows_where_it_lies() {
        let mut buffer = [0; 32];
        let arena = arena(&mut buffer);
        // SAFETY: see above.
        unsafe {
            let first = arena.alloc(layout(8, 8));
            arena.dealloc(first, layout(8, 8));
            assert_eq!(arena.alloc(layout(16, 8)), first);
            assert_eq!(arena.realloc(first, layout(16, 8), 64), first);
            assert_eq!(arena.realloc(first, layout(64, 8), 8), first);
            assert_eq!(arena.alloc(layout(8, 8)) as usize, first as usize + 8);
        }
    }

    #[test]
    fn another_block_is_copied_when_it_grows() {
        let mut buffer = [0; 32];
        let arena = arena(&mut buffer);
        // SAFETY: see above.
        unsafe {
            let first = arena.alloc(layout(8, 8));
            first.copy_from_nonoverlapping(b"antimony".as_ptr(), 8);
            let second = arena.alloc(layout(8, 8));
            arena.dealloc(first, layout(8, 8));
            let moved = arena.realloc(first, layout(8, 8), 16);
            assert!(moved > second);
            assert_eq!(&*slice_from_raw_parts(moved, 8), b"antimony");
        }
    }
}
