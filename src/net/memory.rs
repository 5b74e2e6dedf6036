//! How much memory this process has: every allocation is counted, so that a bound is judged by what is in use
//! and not by what the allocator keeps for later, and at once and not some ticks late (exam R02).

#![expect(unsafe_code, reason = "a global allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Read;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::base::limits::{MEMORY_LANES, MEMORY_LOOK, STATM_FILE};
use crate::limit::pressure::Stage;

/// The system's allocator, and what it has given.
struct Counted;

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// What one thread has allocated less what it has freed; a cache line of its own.
#[repr(align(128))]
struct Lane(AtomicI64);

static LANES: [Lane; MEMORY_LANES] = [const { Lane(AtomicI64::new(0)) }; MEMORY_LANES];
static THREADS: AtomicU32 = AtomicU32::new(0);
/// Octets that the process may take; zero for no bound.
static BOUND: AtomicU64 = AtomicU64::new(0);
/// What it takes beside what is allocated: code, stacks, rings.
static OVERHEAD: AtomicU64 = AtomicU64::new(0);
/// The part of it that is not mapped from files or shared with the kernel, found when the first bound was set:
/// later, what is kept of freed memory cannot be told from it.
static OWN: AtomicU64 = AtomicU64::new(0);
static STAGE: AtomicU8 = AtomicU8::new(0);

/// Shared by the threads that came too late for a lane of their own.
#[expect(clippy::cast_possible_truncation, reason = "a few lanes")]
const LAST_LANE: u32 = MEMORY_LANES as u32 - 1;
/// No lane yet.
const NONE: u32 = u32::MAX;

thread_local! {
    static MINE: Cell<u32> = const { Cell::new(NONE) };
    /// What was allocated since the bound was looked at.
    static GROWN: Cell<i64> = const { Cell::new(0) };
}

/// Octets that are allocated now.
#[must_use]
pub fn allocated() -> u64 {
    let sum: i64 = LANES.iter().map(|lane| lane.0.load(Relaxed)).sum();
    u64::try_from(sum).unwrap_or(0)
}

/// Octets that the process takes, as far as they are in use.
#[must_use]
pub fn used() -> u64 {
    OVERHEAD.load(Relaxed) + allocated()
}

/// From now on the process may take so many octets; zero for as many as it likes. Called again and again: code
/// becomes resident as it is used, and counts.
pub fn bound(most: u64) {
    BOUND.store(most, Relaxed);
    if let Some(now) = resident() {
        if OWN.load(Relaxed) == 0 {
            OWN.store(now.anonymous.saturating_sub(allocated()), Relaxed);
        }
        OVERHEAD.store(OWN.load(Relaxed) + now.mapped, Relaxed);
    }
    look();
}

/// What is given up for want of memory: an atomic load.
#[must_use]
pub fn stage() -> Stage {
    Stage::from_number(STAGE.load(Relaxed))
}

/// Looks how full the memory is.
pub fn look() -> Stage {
    let most = BOUND.load(Relaxed);
    let stage = if most == 0 { Stage::Calm } else { Stage::of(used(), most) };
    STAGE.store(stage as u8, Relaxed);
    stage
}

/// Has the allocator give back what it keeps, if that is much.
pub fn trim() {
    let Some(now) = resident() else { return };
    let kept = now.anonymous.saturating_sub(OWN.load(Relaxed) + allocated());
    if OWN.load(Relaxed) > 0 && kept > used() / 2 {
        // SAFETY: takes no pointers; the allocator locks what it looks at.
        unsafe { libc::malloc_trim(0) };
    }
}

/// Octets that are resident.
struct Resident {
    anonymous: u64,
    /// Of files, code first of all, and of rings.
    mapped: u64,
}

/// `None` where the system does not tell.
fn resident() -> Option<Resident> {
    // Room for all of it, so that looking allocates nothing.
    let mut block = [0; STATM_FILE];
    let len = std::fs::File::open("/proc/self/statm").ok()?.read(&mut block).ok()?;
    let text = std::str::from_utf8(&block[..len]).ok()?;
    let mut pages = text.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
    let (all, mapped) = (pages.next()?.ok()?, pages.next()?.ok()?);
    // SAFETY: takes and gives a number.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    let octets = |pages: u64| pages.saturating_mul(page);
    Some(Resident { anonymous: octets(all.saturating_sub(mapped)), mapped: octets(mapped) })
}

fn count(change: i64) {
    let lane = MINE.get();
    if lane < LAST_LANE {
        // No other thread writes here.
        let lane = &LANES[lane as usize].0;
        lane.store(lane.load(Relaxed) + change, Relaxed);
    } else {
        count_shared(lane, change);
    }
    // What was freed is no credit: a thread that has just let go of much would go on unseen for as much.
    let grown = (GROWN.get() + change).max(0);
    if grown > MEMORY_LOOK {
        GROWN.set(0);
        look();
    } else {
        GROWN.set(grown);
    }
}

/// For a thread that has no lane yet, or came too late for one of its own.
#[cold]
fn count_shared(lane: u32, change: i64) {
    if lane == NONE {
        let own = THREADS.fetch_add(1, Relaxed).min(LAST_LANE);
        MINE.set(own);
    }
    LANES[MEMORY_LANES - 1].0.fetch_add(change, Relaxed);
}

#[expect(clippy::cast_possible_wrap, reason = "a layout is at most isize::MAX")]
const fn size(layout: Layout) -> i64 {
    layout.size() as i64
}

// SAFETY: everything is the system allocator's; what is added neither allocates nor panics.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(size(layout));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(size(layout));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-size(layout));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        #[expect(clippy::cast_possible_wrap, reason = "a layout is at most isize::MAX")]
        count(new_size as i64 - size(layout));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(place, layout, new_size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_counts_until_it_is_freed_wherever() {
        const MUCH: usize = 2 << 30;
        let before = allocated();
        // It is never touched, and so it is not resident.
        let much = std::hint::black_box(Vec::<u8>::with_capacity(MUCH));
        assert!(allocated() >= before + MUCH as u64 / 2 && resident().is_some());
        // Other tests allocate too, but not so much.
        std::thread::spawn(move || drop(much)).join().unwrap();
        assert!(allocated() < before + MUCH as u64 / 2);
    }
}
