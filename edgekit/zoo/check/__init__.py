"""Does edgekit export what people use? Whole libraries of architectures, built small, tried."""
