"""What a detector that is trained needs beside its one pass over the images."""
