"""From evidence to decision: distances, scores, null distributions, p-values, calls. Arrays alone."""
