//! Turns bytes that were cut anywhere into text that is cut between characters only.

/// Decodes a stream of UTF-8. Bytes that can't be UTF-8 become U+FFFD, as terminals show them.
#[derive(Debug, Default)]
pub(super) struct Utf8Stream {
    /// The beginning of a character whose rest hasn't come yet; at most three bytes.
    pending: Vec<u8>,
}

impl Utf8Stream {
    /// The text that `bytes` complete. May be empty.
    pub(super) fn decode(&mut self, bytes: &[u8]) -> String {
        let joined;
        let mut rest = if self.pending.is_empty() {
            bytes
        } else {
            joined = [&std::mem::take(&mut self.pending), bytes].concat();
            &joined
        };
        let mut text = String::with_capacity(rest.len());
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    return text;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    match error.error_len() {
                        None => {
                            self.pending = after.to_vec();
                            return text;
                        }
                        Some(length) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            rest = &after[length..];
                        }
                    }
                }
            }
        }
    }

    /// What is left when no more bytes will come.
    pub(super) fn finish(&mut self) -> String {
        let left = std::mem::take(&mut self.pending);
        if left.is_empty() { String::new() } else { char::REPLACEMENT_CHARACTER.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_character_cut_in_the_middle_arrives_whole() {
        let mut stream = Utf8Stream::default();
        let bytes = "a€b".as_bytes();
        assert_eq!(stream.decode(&bytes[..2]), "a");
        assert_eq!(stream.decode(&bytes[2..3]), "");
        assert_eq!(stream.decode(&bytes[3..]), "€b");
        assert_eq!(stream.finish(), "");
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_and_the_rest_goes_on() {
        let mut stream = Utf8Stream::default();
        assert_eq!(stream.decode(b"a\xffb"), "a\u{fffd}b");
        assert_eq!(stream.decode(b"\xe2\x82"), "");
        assert_eq!(stream.finish(), "\u{fffd}");
    }

    proptest! {
        #[test]
        fn text_comes_out_as_it_went_in_however_it_is_cut(text in ".{0,200}", cuts in prop::collection::vec(1usize..9, 0..80)) {
            let mut stream = Utf8Stream::default();
            let mut rest = text.as_bytes();
            let mut out = String::new();
            for cut in cuts {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                out.push_str(&stream.decode(head));
                rest = tail;
            }
            out.push_str(&stream.decode(rest));
            out.push_str(&stream.finish());
            prop_assert_eq!(out, text);
        }

        #[test]
        fn any_bytes_decode_as_they_would_in_one_piece(bytes in prop::collection::vec(any::<u8>(), 0..64), cut in 0usize..64) {
            let mut stream = Utf8Stream::default();
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            let mut out = stream.decode(head);
            out.push_str(&stream.decode(tail));
            out.push_str(&stream.finish());
            prop_assert_eq!(out, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}
