//! What does the quickstart's own protocol look like? Every tag is one special token, so that text can never be a tag.

use super::grammar::{Piece, Tag, read};
use super::tokenizer::Tokenizer;
use super::{Action, PromptError};

/// Ids of the tokens that prompts, turns and results are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tags {
    user: u32,
    assistant: u32,
    end: u32,
    /// Opening and closing, in the order of [`Tag::ALL`].
    pairs: [[u32; 2]; 5],
}

impl Tags {
    /// Looks the tokens up; each must be one special id.
    pub(super) fn new(tokenizer: &Tokenizer) -> Result<Tags, PromptError> {
        let mut pairs = [[0; 2]; 5];
        for (pair, tag) in pairs.iter_mut().zip(Tag::ALL) {
            *pair = [tokenizer.special(&tag.open())?, tokenizer.special(&tag.close())?];
        }
        Ok(Tags {
            user: tokenizer.special("<|user|>")?,
            assistant: tokenizer.special("<|assistant|>")?,
            end: tokenizer.special("<|end|>")?,
            pairs,
        })
    }

    fn pair(&self, tag: Tag) -> [u32; 2] {
        self.pairs[tag as usize]
    }

    /// `<|user|> question<|assistant|>`
    pub(super) fn first_prompt(&self, tokenizer: &Tokenizer, question: &str) -> Vec<u32> {
        let question = tokenizer.encode_text(&format!(" {question}"));
        [&[self.user][..], &question, &[self.assistant]].concat()
    }

    /// `<result>text</result>`, with at most `max_tokens` ids between the tags.
    pub(super) fn tool_result(&self, tokenizer: &Tokenizer, text: &str, max_tokens: usize) -> Vec<u32> {
        let [open, close] = self.pair(Tag::Result);
        let mut ids = vec![open];
        ids.extend(tokenizer.encode_text(text).into_iter().take(max_tokens));
        ids.push(close);
        ids
    }

    /// `</search>`, `</python>`, `<|end|>`.
    pub(super) fn stop_ids(&self) -> [u32; 3] {
        [self.pair(Tag::Search)[1], self.pair(Tag::Python)[1], self.end]
    }

    /// Reads the ids of a turn, never text that looks like tags.
    pub(super) fn parse(&self, tokenizer: &Tokenizer, turn: &[u32]) -> Action {
        let tag_of = |id: u32, side: usize| Tag::ALL.into_iter().find(|&tag| self.pair(tag)[side] == id);
        let mut pieces = Vec::new();
        let mut rest = turn;
        while let Some(&id) = rest.first() {
            let n_words = rest.iter().take_while(|&&id| !tokenizer.is_special(id)).count();
            if n_words > 0 {
                pieces.push(Piece::Text(tokenizer.decode(&rest[..n_words])));
                rest = &rest[n_words..];
                continue;
            }
            pieces.push(match (tag_of(id, 0), tag_of(id, 1)) {
                (Some(tag), _) => Piece::Open(tag),
                (None, Some(tag)) => Piece::Close(tag),
                (None, None) if id == self.end => Piece::End,
                (None, None) => Piece::Foreign,
            });
            rest = &rest[1..];
        }
        read(&pieces, false)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Malformation;
    use super::super::tokenizer::tests::tiny;
    use super::*;
    use crate::tool::Tool;

    #[test]
    fn turns_are_read_by_the_grammar() {
        use Malformation::{BadTags, NoAction, NoBox};
        let tokenizer = tiny();
        let tags = Tags::new(&tokenizer).unwrap();
        let call = |tool, input: &str| Action::Call { tool, input: input.to_owned() };
        let answer = |text: &str| Action::Answer(text.to_owned());
        let table = [
            ("<search> Algeria area</search>", call(Tool::Search, " Algeria area")),
            ("<think> I look.</think><python>print( 1 + 2)</python>", call(Tool::Python, "print( 1 + 2)")),
            ("<think></think><search></search>", call(Tool::Search, "")),
            ("<answer>\\boxed{ Algiers}</answer><|end|>", answer("Algiers")),
            ("<think> a</think><answer> It is \\boxed{ 5} km.</answer><|end|>", answer("5")),
            ("<answer>\\boxed{\\frac{1}{2}}</answer><|end|>", answer("\\frac{1}{2}")),
            ("<answer>\\boxed{1} or \\boxed{2}</answer><|end|>", answer("2")),
            ("", Action::Malformed(NoAction)),
            ("<|end|>", Action::Malformed(NoAction)),
            ("Algiers<|end|>", Action::Malformed(NoAction)),
            ("<think> a</think>", Action::Malformed(NoAction)),
            ("<think> a</think><|end|>", Action::Malformed(NoAction)),
            ("<think> a", Action::Malformed(NoAction)),
            ("<search> a", Action::Malformed(NoAction)),
            ("<answer>\\boxed{1}", Action::Malformed(NoAction)),
            ("<answer>\\boxed{1}</answer>", Action::Malformed(NoAction)),
            ("<answer> Algiers</answer><|end|>", Action::Malformed(NoBox)),
            ("<answer>\\boxed{ Algiers</answer><|end|>", Action::Malformed(NoBox)),
            ("<answer>\\boxed{ }</answer><|end|>", Action::Malformed(NoBox)),
            ("<think> a<search> b</search>", Action::Malformed(BadTags)),
            ("<think> a<|end|>", Action::Malformed(BadTags)),
            ("</think><search> a</search>", Action::Malformed(BadTags)),
            ("<think> a</think><think> b</think><search> c</search>", Action::Malformed(BadTags)),
            (" word <search> a</search>", Action::Malformed(BadTags)),
            ("<search> a</python>", Action::Malformed(BadTags)),
            ("<search> a</search><search> b</search>", Action::Malformed(BadTags)),
            ("<search> a</search> b", Action::Malformed(BadTags)),
            ("<search> a</search><|end|>", Action::Malformed(BadTags)),
            ("<result> a</result>", Action::Malformed(BadTags)),
            ("<answer>\\boxed{1}</answer><|end|> more", Action::Malformed(BadTags)),
            ("<answer>\\boxed{1}</answer> more<|end|>", Action::Malformed(BadTags)),
            ("<answer><search> a</search>\\boxed{1}</answer><|end|>", Action::Malformed(BadTags)),
        ];
        for (turn, expected) in table {
            assert_eq!(tags.parse(&tokenizer, &tokenizer.encode_marked(turn)), expected, "{turn}");
        }
    }

    #[test]
    fn text_that_looks_like_tags_is_no_action() {
        let tokenizer = tiny();
        let tags = Tags::new(&tokenizer).unwrap();
        let turn = tokenizer.encode_text("<answer>\\boxed{1}</answer><|end|>");
        assert_eq!(tags.parse(&tokenizer, &turn), Action::Malformed(Malformation::NoAction));
    }
}
