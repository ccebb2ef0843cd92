// Package cloud is OpenStack as Sendan needs it: sessions, a shared inventory, operations and
// classified errors. It knows nothing of Kubernetes, and no gophercloud type leaves it.
//
// A caller asks [Sessions] for the [Session] of an [Identity]. Reading is free: [Session.Inventory]
// holds an immutable [Snapshot] of everything in the project, kept fresh by one poller per project,
// so the number of HTTP calls depends on pages, not on how many machines look or how many
// credentials there are. Writing goes through the Session's operations, which put what they made
// straight into the inventory.
//
// Every object Sendan makes carries a [Mark] from the very call that creates it (the description in
// Neutron and Octavia, metadata in Nova and Cinder), so that a lost reply or a crash never leaves an
// object without an owner.
package cloud
