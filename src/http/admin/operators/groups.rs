//! Groups of principals.

use crate::{domain::operators::group::GroupSpec, http::admin::core::declared::declared};

declared! {
    /// A group of principals, who have its roles together.
    GroupView of GroupSpec, tagged "operators", listed at "/groups", each at "/groups/{group}" by "group",
    read with ReadOperators, changed with ManageOperators;
    /// Creates a group, or confirms that it is as described. Its members have its roles from then on.
    put_group as {
        "example": "weir group put claims-team --members ann --members bob \
                    --bindings '[{\"role\": \"owner\", \"scope\": \"domain:claims\"}]'"
    },
    /// Answers a group.
    get_group as {"example": "weir group get claims-team"},
    /// Lists groups by name.
    list_groups as {"example": "weir group list", "columns": ["name", "members", "bindings", "updated_at"]},
    /// Changes a group; for its members that counts from the commit on.
    update_group as {"example": "weir group update claims-team --members ann"},
    /// Deletes a group; its members lose its roles.
    delete_group as {"example": "weir group delete claims-team", "confirm": "its members lose its roles"}
}
