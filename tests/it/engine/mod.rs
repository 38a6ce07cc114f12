//! Governed files hold what a view shows of a source file, and nothing else; or there is none, and a reason.

mod equality;
mod faults;
mod foreign;
mod layout;
mod limits;
mod mixing;
mod naming;
mod sample;
mod statistics;
mod types;
