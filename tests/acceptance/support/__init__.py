"""What the acceptance tests stand on: programs in processes of their own, their ledger, and the checker."""
