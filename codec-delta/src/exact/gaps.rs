//! Sparse positions of the elements that differ from the base, if few do.

/// A gap byte for this many elements, which continues in the next byte.
const MORE: u8 = u8::MAX;

/// The sparse form is used if at most one symbol in so many is not 0. The least frequency of a
/// table is 1 in 4096, so the many zeros would cost more in a plane than their entropy.
const FEW: usize = 512;

/// Upper bound of the bytes for the gaps of `elements` elements.
pub(super) fn most_bytes(elements: usize) -> usize {
    elements / FEW + elements / usize::from(MORE)
}

/// The gaps before symbols other than 0, and these symbols; `None` if there are too many of them.
pub(super) fn of(symbols: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    // Vectors count much faster than an iterator collects.
    let different = symbols.iter().map(|symbol| usize::from(*symbol != 0)).sum::<usize>();
    if different > symbols.len() / FEW {
        return None;
    }
    let few: Vec<u8> = symbols.iter().copied().filter(|symbol| *symbol != 0).collect();
    let (mut gaps, mut next) = (Vec::new(), 0);
    for (place, _) in symbols.iter().enumerate().filter(|(_, symbol)| **symbol != 0) {
        let mut gap = place - next;
        while gap >= usize::from(MORE) {
            gaps.push(MORE);
            gap -= usize::from(MORE);
        }
        gaps.push(gap as u8);
        next = place + 1;
    }
    Some((gaps, few))
}

/// The contexts of symbols other than 0.
pub(super) fn kept(contexts: &[u8], symbols: &[u8]) -> Vec<u8> {
    contexts.iter().zip(symbols).filter(|(_, symbol)| **symbol != 0).map(|(context, _)| *context).collect()
}

/// The positions that the gaps encode, all below `elements`; `None` for gaps that [`of`] never
/// writes.
pub(super) fn places(gaps: &[u8], elements: usize) -> Option<Vec<usize>> {
    let (mut places, mut place) = (Vec::new(), 0);
    for gap in gaps {
        place += usize::from(*gap);
        if *gap != MORE {
            places.push(place);
            place += 1;
        }
    }
    let ended = gaps.last().is_none_or(|last| *last != MORE);
    (ended && places.last().is_none_or(|last| *last < elements)).then_some(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        for set in [&[0][..], &[255], &[256, 257], &[0, 254, 510, 2000], &[1999, 2047]] {
            let mut symbols = vec![0; 2048];
            for place in set {
                symbols[*place] = *place as u8 | 1;
            }
            let (gaps, few) = of(&symbols).expect("four at most");
            assert_eq!(places(&gaps, symbols.len()).as_deref(), Some(set));
            assert!(few.iter().zip(set).all(|(symbol, place)| *symbol == *place as u8 | 1));
            let contexts: Vec<u8> = (0..2048).map(|i| (i % 64) as u8).collect();
            assert!(
                kept(&contexts, &symbols).iter().zip(set).all(|(context, place)| usize::from(*context) == place % 64)
            );
        }
        assert_eq!(of(&[1; 2048]), None);
        assert_eq!(places(&[3, MORE], 300), None);
        assert_eq!(places(&[3, 3], 7), None);
    }
}
