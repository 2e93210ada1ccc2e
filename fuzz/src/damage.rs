//! Damage by an outsider, told by bytes of the fuzzer.

use std::sync::Once;

use arbitrary::{Result, Unstructured};
use kelson::disk::VfsFile;

const PAGE_SIZE_BYTES: u64 = 4096;

/// One change of a file's bytes or length.
///
/// # Errors
/// The fuzzer's bytes are used up.
pub fn damage(file: &dyn VfsFile, size_bytes: u64, input: &mut Unstructured<'_>) -> Result<()> {
    let size_bytes = size_bytes.max(1);
    let place = |input: &mut Unstructured<'_>| input.int_in_range(0..=size_bytes - 1);
    let page = |input: &mut Unstructured<'_>| {
        Ok(input.int_in_range(0..=(size_bytes - 1) / PAGE_SIZE_BYTES)? * PAGE_SIZE_BYTES)
    };
    let at = place(input)?;
    match input.int_in_range(0..=6_u8)? {
        0 => overwrite(file, at, &[input.arbitrary::<u8>()?]),
        1 => {
            let mut byte = [0];
            if file.read_exact_at(&mut byte, at).is_ok() {
                overwrite(file, at, &[byte[0] ^ 1 << input.int_in_range(0..=7_u8)?]);
            }
        }
        2 => overwrite(file, at, &input.arbitrary::<[u8; 8]>()?),
        // Lengths of this world stay small: nobody makes a file of terabytes by accident.
        3 => drop(file.set_size(at)),
        4 => drop(file.set_size(size_bytes + input.int_in_range(1..=3 * PAGE_SIZE_BYTES)?)),
        5 => overwrite(file, page(input)?, &[0; PAGE_SIZE_BYTES as usize]),
        _ => {
            let (from, to) = (page(input)?, page(input)?);
            let mut bytes = vec![0; PAGE_SIZE_BYTES as usize];
            if file.read_exact_at(&mut bytes, from).is_ok() {
                overwrite(file, to, &bytes);
            }
        }
    }
    Ok(())
}

fn overwrite(file: &dyn VfsFile, offset: u64, bytes: &[u8]) {
    file.write_all_at(bytes, offset).expect("no faults are planned");
}

/// Lets panics of redb pass, which the store catches and answers as damage; any other aborts, as
/// without this. A panic that nobody catches ends the process in either case.
pub fn tolerate_panics_of_redb() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let abort = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let is_of_redb = panic.location().is_some_and(|at| at.file().contains("/redb-"));
            if !is_of_redb {
                abort(panic);
            }
        }));
    });
}
