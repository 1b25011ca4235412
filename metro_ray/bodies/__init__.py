"""What is reconstructed: mesh specs, joint sets and the body models behind one call."""
