//! Copies: who makes them, how their rows are mixed, how long they are kept, and what the register says. What they hold
//! is in `views`.

mod copies;
mod mixing;
mod register;
