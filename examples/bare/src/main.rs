//! A client and a server shake hands, talk and close, without std: `cargo run` in this folder.
//!
//! All memory comes from an [`Arena`](arena::Arena), which never gets any back. There is nothing to print
//! with; the exit code is 0 if all went well, else it says what did not.
#![no_std]
#![no_main]

extern crate alloc;

mod arena;
mod conversation;

use core::panic::PanicInfo;

use arena::Arena;
use conversation::converse;

#[global_allocator]
static ARENA: Arena = Arena::new();

// The system's C library starts us. It is all that is linked, and only for that.
#[link(name = "c")]
unsafe extern "C" {
    fn abort() -> !;
}

#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    match converse() {
        Ok(()) => 0,
        Err(failed) => failed as i32,
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: it takes nothing and may be called by anybody at any time.
    unsafe { abort() }
}

// The compiled `alloc` names these two for unwinding, of which there is none.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    // SAFETY: as above.
    unsafe { abort() }
}
