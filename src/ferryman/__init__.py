"""ferryman moves running guests between KVM hosts: says what will happen, shows it, proves it."""
