//! Controls.

use crate::{domain::catalog::control::ControlSpec, http::admin::core::declared::declared};

declared! {
    /// What is asked wherever data of a class is shown. Its name is the class.
    ControlView of ControlSpec, tagged "controls", listed at "/controls", each at "/controls/{class}" by "class",
    read with ReadSharing, changed with ManageControls;
    /// Declares what is asked wherever data of a class is shown, or confirms that it is as described. It holds for what is
    /// shared now.
    put_control as {
        "example": "weir control put PHI --requires '[[\"BAA\"], [\"DUA\"]]' \
                    --min-mask '{\"direct\": \"hash\"}' --raw refuse"
    },
    /// Returns the control of a class.
    get_control as {"example": "weir control get PHI"},
    /// Lists controls by class.
    list_controls as {"example": "weir control list", "columns": ["name", "requires", "raw", "max_grant_days"]},
    /// Changes what is asked. What tightens holds at the next request; a weaker mask waits until the view is shared in
    /// another version, unless whoever set the stronger one takes it back within a day.
    update_control as {"example": "weir control update PHI --min-mask '{\"direct\": \"redact\"}'"},
    /// Deletes the control of a class that no shared table holds.
    delete_control as {"example": "weir control delete PHI", "confirm": "nothing is asked for the class any more"}
}
