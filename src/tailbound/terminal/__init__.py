"""What people see while something runs, and nothing raw on their terminal."""
