//! The gateway's view of an exchange.

use crate::Text;

const ABSENT: u32 = 0xffff_ffff;
const LIST: u32 = 0x8000_0000;

/// The bytes of a view. Offsets that lead out of it are taken for absent strings: no view of a gateway has one.
#[derive(Clone, Copy)]
pub(crate) struct View<'a>(pub &'a [u8]);

impl<'a> View<'a> {
    pub fn u32(self, at: usize) -> u32 {
        match self.0.get(at..at + 4) {
            Some(b) => u32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            None => 0,
        }
    }

    pub fn u64(self, at: usize) -> u64 {
        u64::from(self.u32(at)) | u64::from(self.u32(at + 4)) << 32
    }

    /// The string whose offset and length are at `at`.
    pub fn pair(self, at: usize) -> Option<Text<'a>> {
        let offset = self.u32(at);
        if offset == ABSENT {
            return None;
        }
        let offset = offset as usize;
        self.0.get(offset..offset.checked_add(self.u32(at + 4) as usize)?).map(Text::new)
    }

    /// Where the pair of slot `i` is.
    fn slot(self, i: usize) -> Option<usize> {
        if i < self.u32(44) as usize {
            Some(self.u32(0) as usize + 8 * i)
        } else {
            None
        }
    }

    pub fn count(self, i: usize) -> usize {
        match self.slot(i) {
            Some(at) if self.u32(at) != ABSENT => match self.u32(at + 4) {
                n if n & LIST != 0 => (n & !LIST) as usize,
                _ => 1,
            },
            _ => 0,
        }
    }

    /// Value `k` of slot `i`.
    pub fn value(self, i: usize, k: usize) -> Option<Text<'a>> {
        let at = self.slot(i)?;
        let n = self.u32(at + 4);
        if n & LIST == 0 {
            return if k == 0 { self.pair(at) } else { None };
        }
        if k < (n & !LIST) as usize {
            self.pair(self.u32(at) as usize + 8 * k)
        } else {
            None
        }
    }
}
