"""What kft does to the insides of Keras and KerasHub: optimisations, and the private names that it needs of them."""
